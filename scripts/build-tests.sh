#!/usr/bin/env bash
# Builds the programs, tests and examples that the test suites share.
#
# No package is named, here and wherever something of it is run, which means the default members together: with a part of
# them, cargo would settle on other features of the dependencies, and compile those a second time.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/step.sh "build: programs, tests, examples" cargo build --locked --lib --bins --tests --examples
