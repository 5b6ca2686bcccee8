#!/usr/bin/env bash
# The sherpa worker against sherpa-onnx's own WebSocket server, in turns in one run: the same synthetic model, the same recordings, one core
# and one inference thread each. Some ten minutes; a machine that nobody else uses, with two cores or more.
#
#   scripts/bench-sherpa-peer.sh                  three rounds
#   scripts/bench-sherpa-peer.sh --rounds 1 --seconds 8 --no-ladder
#                                                 scripts/sherpa-peer/compare.py says what else there is
#
#   REPARTEE_NO_BUILD=1   measures what is built already
#   REPARTEE_SPEECH       a folder with recordings (default ../shared/speech)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
target=${TARGET:-${CARGO_TARGET_DIR:-$PWD/target}}
home=${REPARTEE_HOME:-$PWD/.repartee}
speech=${REPARTEE_SPEECH:-$PWD/../shared/speech}
requirements=scripts/sherpa-peer/requirements.txt
folder=$home/sherpa-peer
# Read speech of several people, 3 to 16 s.
recordings=(librispeech/libri-1088-134315-0000 librispeech/windmaple_clip_2 cmu-arctic/cmu_arctic_us_aew_a0001
  cmu-arctic/arctic_a0010 librivox-sense/sense_and_sensibility_01_austen_64kb-0870 misc/jfk)

[ "$(nproc)" -ge 2 ] || fail "the servers need a core and their clients another; there is one core here."
audio=()
for recording in "${recordings[@]}"; do
  if [ -f "$speech/$recording.wav" ]; then audio+=(--audio "$speech/$recording.wav"); fi
done
[ "${#audio[@]}" -gt 0 ] || fail "there are no recordings in $speech." "Name a folder that holds ${recordings[0]}.wav:  REPARTEE_SPEECH=FOLDER"

if [ "${REPARTEE_NO_BUILD:-0}" != 1 ]; then
  scripts/worker.sh sherpa >&2
  scripts/step.sh "build (release): measure" \
    cargo build --release --locked -p repartee-worker-shell --example measure >&2
fi
scripts/step.sh "synthetic models for the worker sherpa" scripts/synthetic.sh sherpa >&2

ensure_packages python3-venv ca-certificates util-linux >&2
if ! cmp -s "$requirements" "$folder/stamp"; then
  say "fetching sherpa-onnx's server (Python wheels, 30 MB)" >&2
  mkdir -p "$folder"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --no-deps \
    -r "$requirements" ||
    fail "the Python package index could not be reached, or a wheel isn't what was pinned in $requirements." \
      "Run the same command again once it can be."
  cp "$requirements" "$folder/stamp"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$folder/venv/bin/python" scripts/sherpa-peer/compare.py --work "$work" \
  --server "$folder/venv/bin/sherpa-onnx-online-websocket-server" --worker "$target/release/repartee-worker-sherpa" \
  --measure "$target/release/examples/measure" --models "$home/synthetic/sherpa" --model synthetic-zipformer-bench \
  "${audio[@]}" "$@"
