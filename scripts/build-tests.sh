#!/usr/bin/env bash
# Builds the programs, tests and examples that the test suites share.
#
# The whole workspace is chosen, here and wherever something of it is run: with a part of it, cargo would settle on other
# features of the dependencies, and compile them a second time.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/step.sh "build: programs, tests, examples" cargo build --locked --workspace --lib --bins --tests --examples
