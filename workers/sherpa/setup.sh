#!/usr/bin/env bash
# Fetches what the sherpa worker is linked with: the shared libraries in the Python wheel of sherpa-onnx, into
# $REPARTEE_HOME/sherpa; and installs espeak-ng, which makes the phonemes of most voices. Quick when they are there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages.sh
MAKE_GOAL=${MAKE_GOAL:-worker-sherpa}
# A program of its own that the worker runs, not a library that it is linked with.
ensure_packages espeak-ng

home=${REPARTEE_HOME:-$PWD/.repartee}
wheels=workers/sherpa/wheels.txt
folder=$home/sherpa
libraries=(libsherpa-onnx-c-api.so libonnxruntime.so)
unpacked() {
  cmp -s "$wheels" "$folder/wheels.txt" || return 1
  local library
  for library in "${libraries[@]}"; do [ -s "$folder/$library" ] || return 1; done
}
if ! unpacked; then
  ensure_packages python3-venv ca-certificates
  machine=$(uname -m)
  case $machine in
    x86_64 | aarch64) ;;
    arm64) machine=aarch64 ;;
    *) fail "there is no sherpa-onnx wheel for a $machine machine." \
      "With libraries of your own, of the version in $wheels:  SHERPA_ONNX_LIB_DIR=FOLDER cargo build --release -p repartee-worker-sherpa" ;;
  esac
  mkdir -p "$home"
  exec 9>"$home/.lock-sherpa"
  flock 9
  if ! unpacked; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "fetching sherpa-onnx (a Python wheel, 11 to 13 MB)"
    python3 -m venv "$work/venv" ||
      fail "python3 could not make a virtual environment." "On Debian or Ubuntu:  apt-get install python3-venv"
    "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
      --only-binary=:all: --platform "manylinux2014_$machine" --dest "$work/wheels" -r "$wheels" ||
      fail "the Python package index could not be reached, or the wheel isn't what was pinned in $wheels." \
        "Run the same command again once it can be."
    "$work/venv/bin/python" -m zipfile -e "$work"/wheels/sherpa_onnx_core-*.whl "$work/unpacked"
    # Beside its place and then renamed: a worker that runs keeps the libraries that it has open.
    rm -rf "$folder.new"
    mkdir "$folder.new"
    for library in "${libraries[@]}"; do
      cp "$work/unpacked/sherpa_onnx/lib/$library" "$folder.new" || fail "the wheel of sherpa-onnx holds no $library."
    done
    "$work/venv/bin/python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$folder.new/${libraries[0]}" ||
      fail "the sherpa-onnx library was fetched but can't be loaded here; its message is above." "It needs glibc 2.17 or newer."
    cp "$wheels" "$folder.new/wheels.txt"
    rm -rf "$folder"
    mv "$folder.new" "$folder"
    say "unpacked into $folder"
  fi
fi
