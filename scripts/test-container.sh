#!/usr/bin/env bash
# The container image, as far as this machine can make one. Called by `make test-container`.
#
# With a Docker engine: builds the image and runs it. Without, as root on Debian: runs the Dockerfile's last stage in a chroot (a
# debootstrap of Debian 12), with programs that were built here; the stage that builds, and the engine's own doing, are not run
# then, which is said. With neither, nothing is run, which is said, too.
#
#   PROGRAMS                    the folder of those programs (default: target/release or target/debug, whichever is newer)
#   BUILD_ARGS="A=1 B=2"        build arguments for Docker
#   REPARTEE_REQUIRE_CONTAINER=1  not being able to run it is a failure
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

home=${REPARTEE_HOME:-$PWD/.repartee}
token=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')
# As long as the Dockerfile's start period.
ready_within=120
# As long as docker-compose.yml's grace period.
stop_within=15

note() { printf 'container: %s\n' "$*"; }
broken() {
  printf 'container: FAILED: %s\n' "$*" >&2
  exit 1
}
not_run() {
  note "NOT RUN: $1"
  if [ "${REPARTEE_REQUIRE_CONTAINER:-0}" = 1 ]; then exit 1; fi
  exit 0
}

# What holds of the running image, however it runs. `image COMMAND…` runs a command in it, as its user and in its environment;
# `is_healthy` is its health check; `stop` sends SIGTERM, waits, and answers the exit status of its program.
check_image() {
  local since=$SECONDS programs program expected
  until is_healthy; do
    [ $((SECONDS - since)) -lt "$ready_within" ] || broken "not healthy after $ready_within s"
    sleep 1
  done
  note "healthy $((SECONDS - since)) s after the start"

  [ "$(image id -u)" = 1000 ] || broken "it runs as user $(image id -u), not as 1000"
  image sh -c 'touch /app/models/written /app/data/written && rm /app/models/written /app/data/written' ||
    broken "its user can't write to its volumes"
  if image sh -c 'touch /usr/local/bin/written' 2>/dev/null; then broken "its user can write to /usr/local/bin"; fi

  programs=$(image sh -c 'ls /usr/local/bin/repartee*')
  for program in $programs; do
    if image ldd "$program" | grep -F 'not found'; then broken "$program lacks a library"; fi
  done
  expected=$(printf 'pocketsphinx\nflite\n' && image cat /usr/local/lib/repartee/engines)
  for program in $expected; do
    image repartee workers | grep -q "^$program\b" || broken "the worker $program doesn't answer"
  done
  note "workers: $(tr '\n' ' ' <<<"$expected")"

  # A whole conversation: voice, detector, recogniser, reply, voice.
  image repartee talk --text "hello there" --json >"$work/talk.json" || broken "no conversation could be held"
  grep -q '"transcript":"[a-z].*"audio_out_ms":[1-9]' "$work/talk.json" ||
    broken "nothing was heard or said in the conversation: $(head -c 2000 "$work/talk.json")"
  note "held a conversation"

  image python3 -c 'import websockets; websockets.connect' || broken "python3 has no websockets"
  if image repartee config example | grep -qx '\[ava\]'; then
    image python - <tests/containers/ava_health_check.py || broken "AVA's health check fails"
    note "AVA's health check passes"
  else
    note "SKIPPED: AVA's health check: this build has no listener for AVA"
  fi

  since=$SECONDS
  stop || broken "it ends with status $? when it is told to stop"
  note "stopped within $((SECONDS - since)) s"
}

# --- with a Docker engine ----------------------------------------------------------------------------------------------
with_docker() {
  local name=repartee-test-$$ arguments=() argument
  for argument in ${BUILD_ARGS:-}; do arguments+=(--build-arg "$argument"); done
  if docker build --quiet --build-arg INCLUDE_VOSK=true . >"$work/refused" 2>&1; then
    broken "INCLUDE_VOSK=true builds an image, without a word"
  fi
  grep -q "Vosk isn't part of Repartee" "$work/refused" || broken "INCLUDE_VOSK=true ends without its sentence: $(tail -n 5 "$work/refused")"
  scripts/step.sh "docker build" docker build --tag repartee:test "${arguments[@]}" .
  if docker run --rm repartee:test >"$work/open" 2>&1; then broken "it starts without a token"; fi
  trap 'docker rm --force "$name" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
  docker run --detach --init --name "$name" --env "REPARTEE_TOKEN=$token" --env LOCAL_WS_PORT=8765 repartee:test >/dev/null
  image() { docker exec --interactive "$name" "$@"; }
  is_healthy() { image repartee health >/dev/null 2>&1; }
  stop() {
    docker stop --time "$stop_within" "$name" >/dev/null
    return "$(docker inspect --format '{{.State.ExitCode}}' "$name")"
  }
  check_image
}

# --- without: the last stage in a chroot ---------------------------------------------------------------------------------
# The programs that were built here last, of the workers whatever is there.
choose_programs() {
  local target=${TARGET:-$PWD/target}
  programs=${PROGRAMS:-}
  if [ -z "$programs" ]; then
    programs=$target/release
    if [ "$target/debug/repartee" -nt "$programs/repartee" ]; then programs=$target/debug; fi
  fi
  if ! [ -x "$programs/repartee" ] || ! [ -x "$programs/repartee-worker-flite" ]; then
    not_run "no programs to put into the image; build them first: make build"
  fi
}

with_chroot() {
  local base=$home/container root=$work/root worker holder server status
  mkdir -p "$base/packages"
  if [ ! -s "$base/bookworm.tar" ]; then
    # In a shell of its own, because it ends the script where it can't.
    (ensure_packages debootstrap) || not_run "debootstrap can't be installed"
    scripts/step.sh "a bare Debian 12" debootstrap --variant=minbase bookworm "$work/bare" >"$work/debootstrap" ||
      { tail -n 5 "$work/debootstrap" && not_run "debootstrap failed; its last words are above"; }
    rm -f "$work"/bare/var/cache/apt/archives/*.deb
    tar -C "$work/bare" --one-file-system -cf "$base/bookworm.tar.new" .
    mv "$base/bookworm.tar.new" "$base/bookworm.tar"
    rm -rf "$work/bare"
  fi
  mkdir "$root" "$work/image"
  tar -C "$root" -xf "$base/bookworm.tar"
  # What a container engine gives: names of hosts, /proc. Packages are kept for the next time.
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  mount -t proc proc "$root/proc"
  mount --bind "$base/packages" "$root/var/cache/apt/archives"

  # The stage `build` is replaced by what was built here; `engines` tells what that is.
  mkdir -p "$work/engines"
  for worker in sherpa whisper llama; do
    if [ -x "$programs/repartee-worker-$worker" ]; then echo "$worker"; fi
  done >"$work/engines/engines"
  scripts/container-install.sh "$work/engines/engines" "$work/image/image" "$programs"
  scripts/step.sh "the last stage of the Dockerfile" scripts/container_stage.py final "$root" \
    --from "engines=$work/engines" --from "build=$work/image" --settings "$work/settings.json"
  umount "$root/var/cache/apt/archives"

  # Environment, user, folder and commands, out of the Dockerfile; each with a zero byte behind it, as an array of bash reads it.
  setting() {
    python3 - "$work/settings.json" "$1" <<'PY'
import json, sys
settings = json.load(open(sys.argv[1]))
found = {
    "environment": [f"{name}={value}" for name, value in settings["Env"].items()],
    "user": [settings["User"]],
    "folder": [settings["WorkingDir"]],
    "command": settings["Entrypoint"] + settings["Cmd"],
    "health": settings["Healthcheck"]["Test"],
}[sys.argv[2]]
sys.stdout.write("".join(text + "\0" for text in found))
PY
  }
  local -a environment user folder command health
  mapfile -d '' environment < <(setting environment)
  mapfile -d '' user < <(setting user)
  mapfile -d '' folder < <(setting folder)
  mapfile -d '' command < <(setting command)
  mapfile -d '' health < <(setting health)
  in_image() {
    chroot --userspec="${user[0]}" "$root" /usr/bin/env --ignore-environment --chdir="${folder[0]}" "${environment[@]}" "$@"
  }
  if in_image timeout 20 "${command[@]}" >"$work/open" 2>&1; then broken "it starts without a token"; fi
  grep -q token "$work/open" || broken "without a token it says only: $(head -c 500 "$work/open")"

  # A network of its own, so that its ports are free; it lasts as long as some process is in it.
  ensure_packages iproute2 util-linux
  unshare --net sleep infinity &
  holder=$!
  until [ "$(readlink "/proc/$holder/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  nsenter --net="/proc/$holder/ns/net" ip link set lo up
  environment+=("REPARTEE_TOKEN=$token" LOCAL_WS_PORT=8765)
  image() {
    nsenter --net="/proc/$holder/ns/net" chroot --userspec="${user[0]}" "$root" \
      /usr/bin/env --ignore-environment --chdir="${folder[0]}" "${environment[@]}" "$@"
  }
  is_healthy() { image "${health[@]}" >/dev/null 2>&1; }
  # exec all the way, so that the process that is waited for is the server.
  (
    exec nsenter --net="/proc/$holder/ns/net" chroot --userspec="${user[0]}" "$root" \
      /usr/bin/env --ignore-environment --chdir="${folder[0]}" "${environment[@]}" "${command[@]}"
  ) >"$work/log" 2>&1 &
  server=$!
  stop() {
    kill -TERM "$server"
    timeout "$stop_within" tail --pid="$server" -f /dev/null || return 124
    status=0
    wait "$server" || status=$?
    return "$status"
  }
  trap 'cat "$work/log" >&2' ERR EXIT
  check_image
  trap - ERR EXIT
  note "NOT RUN: the stages that build (the programs are those of $programs), the Docker engine's own doing, and Compose"
}

if [ "${1:-}" = --in-namespace ]; then
  # All mounts and processes below this one go when it ends.
  programs=$2
  work=$3
  mount --make-rprivate /
  with_chroot
  exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if docker info >/dev/null 2>&1; then
  with_docker
  exit
fi
note "there is no Docker engine here (docker info fails)"
[ "$(id -u)" -eq 0 ] || not_run "the steps of the Dockerfile can be run in a chroot only by root"
command -v apt-get >/dev/null || not_run "the steps of the Dockerfile can be run in a chroot only where debootstrap can be installed"
unshare --mount --pid --net --fork true 2>/dev/null || not_run "root may not make namespaces here"
choose_programs
unshare --mount --pid --fork --kill-child --mount-proc "$0" --in-namespace "$programs" "$work"
