#!/usr/bin/env bash
# Builds and runs every test that needs nothing but the default set-up. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
target=${TARGET:-$PWD/target}

# Tests start real workers, so these are built first; one build directory serves all steps.
$step "build the programs" cargo build --locked --workspace --bins
export REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/debug}

# nextest runs each test in a process of its own and ends one that hangs; without it, cargo's own runner does.
if cargo nextest --version >/dev/null 2>&1; then
  $step "tests" cargo nextest run --locked --workspace
else
  $step "tests" cargo test --locked --workspace --lib --bins --tests
fi
$step "tests in the documentation" cargo test --locked --workspace --doc
$step "examples" cargo build --locked --examples
