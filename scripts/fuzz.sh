#!/usr/bin/env bash
# Every parser's fuzz target for FUZZ_SECONDS=30 each; TARGETS="protocol_ari protocol_vosk" chooses some. Called by `make fuzz`.
#
# It needs neither a nightly compiler nor cargo-fuzz: the compiler's own passes count coverage, and libFuzzer is built by the
# C++ compiler. There is no address sanitiser then; our code has no `unsafe` for it to watch. Inputs that make something
# fall lie in fuzz/artifacts, what was learnt in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${FUZZ_SECONDS:-30}
targets=${TARGETS:-$(sed -n 's/^name = "\(protocol_.*\)"/\1/p' Cargo.toml)}
target=${TARGET:-$PWD/../target}/fuzz

skip() {
  echo "fuzz: SKIPPED, nothing was fuzzed: $1" >&2
  # Who asked for it by FUZZ_REQUIRED=1 wants to know by the exit code, too.
  [ -z "${FUZZ_REQUIRED:-}" ] || exit 1
  exit 0
}

command -v c++ >/dev/null || skip "libFuzzer is C++, and there is no c++ here (Debian: g++)"
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$target
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1 -Cdebug-assertions"

# The session's target needs the whole engine; who wants it names it.
features=(--no-default-features)
case " $targets " in *" session_operations "*) features=() ;; esac
bins=()
for name in $targets; do bins+=(--bin "$name"); done
# Naming the machine's own target keeps the flags away from build scripts and macros, which have no libFuzzer.
if ! ../scripts/step.sh "build of the fuzz targets" \
  cargo build --release --locked --target "$host" "${features[@]}" "${bins[@]}"; then
  # What this crate says wrong is a failure; a compiler or a registry that isn't up to it is none.
  cargo check --locked "${features[@]}" "${bins[@]}" >/dev/null 2>&1 && skip "this compiler can't link them"
  echo "fuzz: the targets can't be built" >&2
  exit 1
fi

failed=()
for name in $targets; do
  mkdir -p "corpus/$name" "artifacts/$name"
  # 70,000 bytes: longer than the longest frame of any wire that is cut into frames.
  ../scripts/step.sh "fuzz $name, $seconds s" "$target/$host/release/$name" "corpus/$name" \
    -artifact_prefix="artifacts/$name/" -max_total_time="$seconds" -max_len=70000 -timeout=10 -rss_limit_mb=1024 \
    -print_final_stats=1 -verbosity=0 || failed+=("$name")
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "fuzz: FAILED: ${failed[*]} (inputs in fuzz/artifacts)" >&2
  exit 1
fi
