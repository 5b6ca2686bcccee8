#!/usr/bin/env bash
# container-build.sh ENGINES DESTINATION: builds everything that the container image holds and installs it below DESTINATION.
# ENGINES is a file with the names of further workers, a line each (scripts/container-engines.sh writes it).
#
#   REPARTEE_WORKER_FEATURES=cuda  is given to the workers that have this feature
#   LLAMA_CUDA_ARCHITECTURES       for which GPUs, as CMake writes it ("86;89"); not set: all that the toolkit knows
set -euo pipefail
cd "$(dirname "$0")/.."
engines=$1
destination=$2

make build
features=${REPARTEE_WORKER_FEATURES:-}
if [ -n "${LLAMA_CUDA_ARCHITECTURES:-}" ]; then
  # Both llama.cpp and whisper.cpp hand their CMake what begins with CMAKE_.
  export CMAKE_CUDA_ARCHITECTURES=$LLAMA_CUDA_ARCHITECTURES
  if [ "$features" != cuda ]; then
    printf 'LLAMA_CUDA_ARCHITECTURES has no effect: this image computes without CUDA (REPARTEE_WORKER_FEATURES=cuda)\n' >&2
  fi
fi
while read -r worker; do
  own=$features
  if [ -n "$own" ] && ! grep -q "^$own = " "workers/$worker/Cargo.toml"; then
    printf 'the worker %s has no feature %s and is built without\n' "$worker" "$own"
    own=
  fi
  REPARTEE_WORKER_FEATURES=$own scripts/worker.sh "$worker" </dev/null
done <"$engines"

scripts/container-install.sh "$engines" "$destination" "${CARGO_TARGET_DIR:-target}/release"
