#!/usr/bin/env bash
# worker.sh NAME [CARGO_ARGUMENT…]: sets up and builds one worker, in release, where the server looks for it.
# Called by `make worker-NAME`. A worker's own set-up is workers/NAME/setup.sh; REPARTEE_WORKER_FEATURES=cuda is passed on
# to cargo as --features.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
known=$(for folder in workers/*/Cargo.toml; do basename "$(dirname "$folder")"; done | grep -vx shell)
if ! grep -qxF -- "$name" <<<"$known"; then
  printf 'there is no worker %s; there are: %s\n' "$name" "$(tr '\n' ' ' <<<"$known")" >&2
  exit 2
fi
if [ -x "workers/$name/setup.sh" ]; then
  scripts/step.sh "set-up of the worker $name" "workers/$name/setup.sh"
fi
features=()
if [ -n "${REPARTEE_WORKER_FEATURES:-}" ]; then features=(--features "$REPARTEE_WORKER_FEATURES"); fi
scripts/step.sh "build (release): the worker $name" \
  cargo build --release --locked -p "repartee-worker-$name" "${features[@]}" "$@"
