#!/usr/bin/env bash
# Builds and runs every test that needs nothing but the default set-up. Called by `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
target=${TARGET:-$PWD/target}

# Tests start real workers, so the programs are built with them; what follows finds everything built.
scripts/build-tests.sh
export REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/debug}

# nextest runs each test in a process of its own and ends one that hangs; without it, cargo's own runner does.
if cargo nextest --version >/dev/null 2>&1; then
  $step "tests" cargo nextest run --locked
else
  $step "tests" cargo test --locked --lib --bins --tests --examples
fi
$step "tests in the documentation" cargo test --locked --doc
