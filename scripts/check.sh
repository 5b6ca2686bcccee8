#!/usr/bin/env bash
# What can be said about the code without running a call. Called by `make check`. Tells every failure, not only the first.
set -uo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
failed=()
check() { $step "$@" || failed+=("$1"); }

check "format" cargo fmt --all --check
check "lints" cargo clippy --locked --all-targets -- -D warnings
if cargo deny --version >/dev/null 2>&1; then
  # Advisories need a database from the network, so they are not part of this check: `cargo deny check advisories`.
  check "dependency rules" cargo deny check --hide-inclusion-graph bans licenses sources
else
  echo "== dependency rules: skipped: cargo-deny isn't installed (cargo install cargo-deny)"
fi
# No package is named here either, for the reason that scripts/test.sh gives.
check "walls between the floors, catalogue of models" \
  cargo test --quiet --locked --test floors --test catalogue
# The documents of the native wire are generated from its types; a test in native/schema.rs compares.
check "generated documents" cargo test --quiet --locked --lib schema::

if [ "${#failed[@]}" -gt 0 ]; then
  printf 'check: failed: %s\n' "${failed[*]}" >&2
  exit 1
fi
