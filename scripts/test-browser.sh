#!/usr/bin/env bash
# The talk page in a headless Chromium: its parts, then the page against a server that only pretends, then a spoken
# conversation with the engine. Screenshots go to target/browser. Called by `make test-browser`. It uses the programs that
# `make test` builds, so that both share one build.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup-browser.sh
scripts/build-tests.sh
target=${TARGET:-$PWD/target}
export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser)}
export REPARTEE_BIN=${REPARTEE_BIN:-$target/debug/repartee} REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/debug}
# A browser that hangs must not hang the suite with it.
for suite in units page talk; do
  scripts/step.sh "browser: $suite" timeout --kill-after=10 600 node --test "tests/browser/$suite.test.js"
done
