# Two commands matter: `make run` talks with you, `make test` proves that it works.
# Both set up whatever is missing first, and both are quick the second time.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# A Rust that was installed a minute ago is used even if this shell has not heard of it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What the set-up fetched (the onnxruntime library, the Silero model) lies here; the engine looks here too.
export REPARTEE_HOME ?= $(CURDIR)/.repartee

# One build directory for everything. Whoever sets CARGO_TARGET_DIR gets just that.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)

# The workers of the embedded default. Workers with a bigger set-up are built by targets of their own.
DEFAULT_WORKERS := -p repartee-worker-pocketsphinx -p repartee-worker-flite

# Arguments for `make run`, for example: make run ARGS="--listen 127.0.0.1:9000"
ARGS ?=

STEP := scripts/step.sh

# What the set-up tells to type again when it needs something first.
export MAKE_GOAL := $(or $(firstword $(MAKECMDGOALS)),run)

.PHONY: help setup run build workers test test-workers test-container test-asterisk check fmt bench bench-workers test-browser fuzz clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "make %-14s %s\n", $$1, $$2 }'

setup: ## Install what is missing: system packages, the onnxruntime library, the Silero model
	@scripts/setup.sh

run: build ## Set up, build, start the server and print the address of the talk page
	@REPARTEE_WORKERS="$${REPARTEE_WORKERS:-$(TARGET)/release}" exec "$(TARGET)/release/repartee" serve $(ARGS)

build: setup ## The server and its default workers, in release
	@$(STEP) "build (release)" cargo build --release --locked -p repartee $(DEFAULT_WORKERS)

worker-%: setup ## (worker-NAME) One more worker: llama, sherpa, whisper. REPARTEE_WORKER_FEATURES=cuda builds it for that
	@scripts/worker.sh $*

workers: build ## All workers; llama and whisper take minutes
	@for worker in llama sherpa whisper; do scripts/worker.sh $$worker || exit 1; done

test: setup ## Every test that needs nothing but the default set-up
	@TARGET="$(TARGET)" scripts/test.sh

check: setup ## Format, lints, dependency rules, the walls between floors, generated documents
	@scripts/check.sh

fmt: ## Format everything
	@cargo fmt --all

bench: setup ## The benchmarks and their report (docs/performance.md says how to read it)
	@cargo build --locked --profile bench $(DEFAULT_WORKERS)
	@TARGET="$(TARGET)" scripts/bench.sh $(ARGS)

bench-workers: setup ## Every worker that is built, with every model that is here; ARGS=--quick says only that it works
	@TARGET="$(TARGET)" scripts/bench-workers.sh $(ARGS)

test-workers: setup ## The workers with a set-up of their own, on real and synthetic models; WORKERS=llama chooses
	@TARGET="$(TARGET)" scripts/test-workers.sh

test-browser: setup ## The talk page in a headless Chromium, with a recording as its microphone
	@TARGET="$(TARGET)" scripts/test-browser.sh

test-container: setup ## The container image, as far as this machine can make one: by Docker, or in a chroot
	@TARGET="$(TARGET)" scripts/test-container.sh

test-asterisk: setup ## Calls through a real Asterisk (Debian's, in a chroot and a network of its own); CASES= chooses
	@TARGET="$(TARGET)" CASES="$(CASES)" scripts/test-asterisk.sh
fuzz: ## Every parser against random bytes, SECONDS=30 each; TARGETS="protocol_ari" chooses
	@TARGET="$(TARGET)" FUZZ_SECONDS="$(or $(SECONDS),30)" TARGETS="$(TARGETS)" scripts/fuzz.sh

clean: ## Remove what was built; what was set up stays (remove .repartee by hand for that)
	@cargo clean
