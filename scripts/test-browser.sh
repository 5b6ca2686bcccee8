#!/usr/bin/env bash
# The talk page in a headless Chromium. Called by `make test-browser`, which has built the server in release.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup-browser.sh
target=${TARGET:-$PWD/target}
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser)}
export CHROMIUM=$chromium REPARTEE_BIN=$target/release/repartee REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/release}
[ -d tests/browser ] || { echo "test-browser: tests/browser is missing" >&2; exit 1; }
mapfile -t suites < <(find tests/browser -name '*.test.mjs' | sort)
[ "${#suites[@]}" -gt 0 ] || { echo "test-browser: no tests/browser/*.test.mjs" >&2; exit 1; }
# A browser that hangs must not hang the suite with it.
exec scripts/step.sh "browser" timeout --kill-after=10 900 node --test "${suites[@]}"
