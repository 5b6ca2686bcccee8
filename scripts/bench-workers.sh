#!/usr/bin/env bash
# Measures every worker that is built, with every model that is here, and prints one report in Markdown. Called by `make bench-workers`.
#
#   scripts/bench-workers.sh                       everything that there is; a minute or two for each model
#   scripts/bench-workers.sh --quick               one round with few streams: says that it works, not how fast
#   WORKERS="sherpa flite" MODELS=zipformer …      only these workers, only models whose name holds this
#   ROUNDS=5 STREAMS=1,2,4,8,16 …                  other rounds (default 3) and numbers of streams (default 1,2,4,8)
#
#   REPARTEE_NO_BUILD=1   measures what is built already
#   REPARTEE_MODELS   a folder with real models (default ../shared/models)
#   REPARTEE_SPEECH   a folder with recordings (default ../shared/speech)
#
# A worker with a set-up of its own is measured where it is built; the others are named with what builds them. Whatever is
# slow, the build included, is told on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
target=${TARGET:-${CARGO_TARGET_DIR:-$PWD/target}}
home=${REPARTEE_HOME:-$PWD/.repartee}
export REPARTEE_HOME=$home
real=${REPARTEE_MODELS:-$PWD/../shared/models}
rounds=${ROUNDS:-3}
streams=${STREAMS:-1,2,4,8}
loads=3
if [ "${1:-}" = --quick ]; then
  rounds=1
  loads=1
  streams=${STREAMS:-1,4}
  shift
fi
[ "$#" -eq 0 ] || { printf 'bench-workers.sh: unknown argument %s\n' "$1" >&2; exit 2; }

known=$(for folder in workers/*/Cargo.toml; do basename "$(dirname "$folder")"; done | grep -vx shell)
workers=${WORKERS:-$known}
packages=()
missing=()
measured=()
for worker in $workers; do
  case $worker in
    pocketsphinx | flite) ;;
    # It is built anew, so that the numbers are those of the sources, but a set-up of minutes isn't begun here.
    *)
      if [ ! -x "$target/release/repartee-worker-$worker" ]; then
        missing+=("$worker")
        continue
      fi
      ;;
  esac
  measured+=("$worker")
  packages+=(-p "repartee-worker-$worker")
done
if [ "${REPARTEE_NO_BUILD:-0}" != 1 ]; then
  [ "${#packages[@]}" -eq 0 ] ||
    $step "build (release): the workers" cargo build --release --locked "${packages[@]}" >&2
  $step "build (release): measure" cargo build --release --locked -p repartee-worker-shell --example measure >&2
fi
for worker in "${measured[@]}"; do
  if [ -f "workers/$worker/synthetic/make.py" ]; then
    $step "synthetic models for the worker $worker" scripts/synthetic.sh "$worker" >&2
  fi
done

# NAME ROOT: what the worker finds below a models root, as lines of id and, where there is one, problem.
probed() {
  "$target/release/repartee-worker-$1" --probe --models "$2" |
    python3 -c 'import json, sys
for model in json.load(sys.stdin)["models"]:
    print(model["id"], model.get("problem") or "", sep="\t")'
}
# NAME: the jobs that the worker can do.
jobs_of() {
  "$target/release/repartee-worker-$1" --probe |
    python3 -c 'import json, sys; print(*(job for job in json.load(sys.stdin)["hello"]["jobs"] if job in ("stt", "tts", "llm")))'
}
# ROOT PATTERN: files as models are named, relative to their root.
files() { (cd "$1" 2>/dev/null && find . -type f -name "$2" -size +64k -printf '%P\n' | sort) || true; }

# NAME ROOT: the models of the worker below a root, one a line. llama.cpp's and whisper.cpp's are named by their files.
models_of() {
  case $1 in
    llama) files "$2" '*.gguf' | grep -v mmproj || true ;;
    whisper) files "$2" '*.bin' | grep -E '(^|/)(ggml|synthetic|[^/]*whisper)[^/]*\.bin$' || true ;;
    *) probed "$1" "$2" | awk -F'\t' '$2 == "" { print $1 }' ;;
  esac
}
most=$(tr , '\n' <<<"$streams" | sort -n | tail -n 1)
# NAME JOB: what the worker needs to be told to take the largest number of streams at once.
options_of() {
  case $1/$2 in
    pocketsphinx/stt) printf '%s\n' --option "lanes=$most" ;;
    whisper/stt | sherpa/stt) printf '%s\n' --option "streams=$most" ;;
    llama/llm) printf '%s\n' --option "parallel=$most" ;;
  esac
}

# NAME ROOT MODEL: measures one model. What it is for isn't told by every probe, so each job of the worker is tried.
measure() {
  local job problems="" options
  for job in $(jobs_of "$1"); do
    mapfile -t options < <(options_of "$1" "$job")
    printf 'measuring %s with %s\n' "$1" "$3" >&2
    if "$target/release/examples/measure" --worker "$target/release/repartee-worker-$1" --job "$job" \
      --models "$2" --model "$3" --streams "$streams" --rounds "$rounds" --loads "$loads" \
      "${options[@]}" 2>"$work/errors" >"$work/table"; then
      cat "$work/table"
      return
    fi
    problems+="${problems:+; }$job: $(tail -n 1 "$work/errors")"
  done
  unmeasured+=("- $1, \`$3\`: $problems")
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unmeasured=()
processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
memory=$(awk '$1 == "MemTotal:" { printf "%.0f", $2 / 1024 / 1024 }' /proc/meminfo)
printf '# Workers: what was measured\n\n'
printf 'Machine: %s cores (%s), %s GiB of memory; %s. ' "$(nproc)" "${processor:-unknown}" "$memory" "$(uname -sr)"
printf 'Load before: %s. %s rounds, %s loads each.\n\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$rounds" "$loads"
printf 'Times are medians with the worst in parentheses. A model that is called synthetic has untrained weights: what it costs is that '
printf 'of its size, and it proves no accuracy.\n\n'
for worker in "${measured[@]}"; do
  found=0
  for root in "$real" "$home/synthetic/$worker"; do
    # A probe of a worker whose models are built in tells them for any root.
    if [ ! -d "$root" ] && [ "$root" != "$real" ]; then continue; fi
    while IFS= read -r model; do
      [ -n "$model" ] && [[ $model == *"${MODELS:-}"* ]] || continue
      found=1
      measure "$worker" "$root" "$model"
    done < <(models_of "$worker" "$root")
  done
  [ "$found" = 1 ] || unmeasured+=("- $worker: no model of it is here")
done
for worker in "${missing[@]}"; do unmeasured+=("- $worker: not built; \`make worker-$worker\` builds it"); done
if [ "${#unmeasured[@]}" -gt 0 ]; then
  printf '## Not measured\n\n'
  printf '%s\n' "${unmeasured[@]}"
  printf '\n'
fi
printf 'Load after: %s.\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
