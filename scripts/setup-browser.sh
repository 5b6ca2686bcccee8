#!/usr/bin/env bash
# What the browser suite needs beyond the default set-up: Chromium and Node. Prints nothing when both are there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
export MAKE_GOAL=test-browser

# A Chromium or Node that came from elsewhere is as good; CHROMIUM names a browser that isn't on the path.
packages=()
if [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
  packages+=(chromium)
fi
command -v node >/dev/null || packages+=(nodejs)
if [ "${#packages[@]}" -gt 0 ]; then
  ensure_packages "${packages[@]}"
fi
command -v node >/dev/null || fail "node is needed for the browser suite, version 18 or newer."
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] ||
  fail "node $(node --version) is too old for the browser suite; version 18 or newer is needed."
