#!/usr/bin/env bash
# Reads the build arguments of the container image from the environment and prints the workers that it gets beside the default
# ones, a line each. The names are those of AVA's image, so that its .env works here too.
#
# An argument for an engine that isn't here ends with exit status 2 and a sentence for each: an image that lacks what was asked
# for would only be noticed by its callers. The Dockerfile runs this first, before minutes of building.
set -euo pipefail

refusals=()
refuse() { refusals+=("$1"); }

# is_true NAME: whether this argument says so, in the spellings that AVA takes. Not set means false; the defaults are the Dockerfile's.
is_true() {
  local value=${!1:-}
  case ${value,,} in
    1 | true | yes | y | on) return 0 ;;
    "" | 0 | false | no | n | off) return 1 ;;
    *)
      refuse "$1=$value: it takes true or false."
      return 1
      ;;
  esac
}

# not_here NAME SENTENCE: refuses an argument that asks for this engine.
not_here() {
  if is_true "$1"; then refuse "$1=true: $2 Set $1=false."; fi
}

# --- engines that are not here ---------------------------------------------------------------------------------------
not_here INCLUDE_VOSK "Vosk isn't part of Repartee. INCLUDE_SHERPA=true hears speech while it's spoken, with a streaming zipformer model."
not_here INCLUDE_FASTER_WHISPER "faster-whisper isn't part of Repartee. INCLUDE_WHISPER_CPP=true runs Whisper models as ggml files."
not_here INCLUDE_SILERO "Silero's voices aren't part of Repartee (its voice detector is, always). INCLUDE_PIPER=true has Russian voices."
not_here INCLUDE_KROKO_EMBEDDED "Kroko's own server and its .data models aren't part of Repartee. INCLUDE_SHERPA=true runs Kroko's plain ONNX models."
if [ -n "${KROKO_SERVER_SHA256:-}" ]; then
  refuse "KROKO_SERVER_SHA256: Kroko's own server isn't part of Repartee. Leave it empty."
fi
if [ -n "${ONNX_RUNTIME_SHA256:-}" ]; then
  refuse "ONNX_RUNTIME_SHA256: onnxruntime is pinned by its hash in scripts/wheels.txt. Leave it empty."
fi

# --- engines that are ------------------------------------------------------------------------------------------------
workers=()
# One worker runs what AVA has five backends for (workers/sherpa/README.md tells the kinds of models).
asked_for_sherpa=()
for name in INCLUDE_SHERPA INCLUDE_PIPER INCLUDE_KOKORO INCLUDE_MELOTTS INCLUDE_TONE; do
  if is_true "$name"; then asked_for_sherpa+=("$name"); fi
done
if [ "${#asked_for_sherpa[@]}" -gt 0 ]; then
  workers+=(sherpa)
  printf 'the worker sherpa is built, for %s\n' "${asked_for_sherpa[*]}" >&2
fi
if is_true INCLUDE_WHISPER_CPP; then workers+=(whisper); fi
if is_true INCLUDE_LLAMA; then workers+=(llama); fi

if [ "${#refusals[@]}" -gt 0 ]; then
  printf 'The image is not built:\n' >&2
  printf '  %s\n' "${refusals[@]}" >&2
  exit 2
fi
if [ "${#workers[@]}" -gt 0 ]; then printf '%s\n' "${workers[@]}"; fi
