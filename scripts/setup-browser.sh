#!/usr/bin/env bash
# What the browser suite needs beyond the default set-up: Chromium, Node with npm, and the npm packages that
# tests/browser/package-lock.json pins. Prints nothing when all of it is there.
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
command -v npm >/dev/null || packages+=(npm)
if [ "${#packages[@]}" -gt 0 ]; then
  ensure_packages "${packages[@]}"
fi
command -v node >/dev/null || fail "node is needed for the browser suite, version 18 or newer."
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] ||
  fail "node $(node --version) is too old for the browser suite; version 18 or newer is needed."

# The stamp holds the lock file that was installed; a change of it installs anew.
stamp=tests/browser/node_modules/.installed-lock.json
if ! cmp -s tests/browser/package-lock.json "$stamp"; then
  command -v npm >/dev/null || fail "npm is needed to install the driver of the browser."
  say "installing the driver of the browser (two npm packages)"
  npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error >/dev/null
  cp tests/browser/package-lock.json "$stamp"
fi
