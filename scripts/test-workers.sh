#!/usr/bin/env bash
# The workers with a set-up of their own: lints, their own tests, and calls of the engine with each of them. Called by
# `make test-workers`; WORKERS="llama" chooses some.
set -euo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
target=${TARGET:-$PWD/target}
# Whatever is neither the shell nor part of the default set-up.
workers=${WORKERS:-$(for folder in workers/*/Cargo.toml; do basename "$(dirname "$folder")"; done |
  grep -vxE 'shell|pocketsphinx|flite')}
packages=()
for worker in $workers; do
  if [ -x "workers/$worker/setup.sh" ]; then $step "set-up of the worker $worker" "workers/$worker/setup.sh"; fi
  if [ -f "workers/$worker/synthetic/make.py" ]; then
    $step "synthetic models for the worker $worker" scripts/synthetic.sh "$worker"
  fi
  packages+=(-p "repartee-worker-$worker")
done
$step "lints of the workers" cargo clippy --locked "${packages[@]}" --all-targets -- -D warnings
$step "build: the workers and their tests" cargo build --locked "${packages[@]}" --bins --tests
# They hold conversations with real libraries on all cores, so one at a time.
$step "tests of the workers" cargo test --locked --no-fail-fast "${packages[@]}" -- --test-threads=1

# The engine with each of them, out of the build that `make test` made. What isn't chosen here is skipped, and says so.
scripts/build-tests.sh
export REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/debug}
if [ -z "${WORKERS:-}" ]; then export REPARTEE_REQUIRE_WORKERS=1; fi
$step "calls with the workers" cargo test --locked --test workers -- --test-threads=1 --nocapture
