#!/usr/bin/env bash
# Calls through a real Asterisk: test phones call the extensions of examples/asterisk/, and measure what they hear. Called by
# `make test-asterisk`.
#
# Asterisk is Debian's package (sid has a current one), in a folder of its own, made by debootstrap once: some 500 MB. It runs
# there in a network namespace in which there is nothing but loopback, so nothing that listens here can be reached from elsewhere,
# and no port is taken. That needs root on Linux; where it can't be done, nothing is run, which is said.
#
#   CASES=audiosocket             only tests whose names hold this
#   REPARTEE_REQUIRE_ASTERISK=1   not being able to run it is a failure
#   REPARTEE_SPEECH               the folder of the recordings that the callers speak
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

step=scripts/step.sh
home=${REPARTEE_HOME:-$PWD/.repartee}
target=${TARGET:-$PWD/target}

not_run() {
  printf 'asterisk: SKIPPED: %s\n' "$*"
  if [ "${REPARTEE_REQUIRE_ASTERISK:-0}" = 1 ]; then exit 1; fi
  exit 0
}

if [ "${1:-}" = --in-namespace ]; then
  # Every process below this one goes when it ends, and every mount and address with it.
  ip link set lo up
  export REPARTEE_ASTERISK=$2
  # One after the other: they measure time, and share the ports. nextest gives a case that fails a second chance and says so: a machine
  # that others use takes the processor away for longer than a frame now and then, which is not what is tested.
  if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked --profile asterisk --test asterisk ${CASES:+"$CASES"}
  fi
  exec cargo test --locked --test asterisk -- --test-threads=1 --nocapture ${CASES:+"$CASES"}
fi

[ "$(uname -s)" = Linux ] || not_run "this is not Linux"
[ "$(id -u)" -eq 0 ] || not_run "a chroot and a network of its own can be made only by root"
command -v apt-get >/dev/null || not_run "debootstrap can be installed only on Debian and what descends from it"
inside=(unshare --mount --pid --net --fork --kill-child --mount-proc)
"${inside[@]}" true 2>/dev/null || not_run "root may not make namespaces here"
(ensure_packages debootstrap iproute2 util-linux) || not_run "debootstrap can't be installed"

# Where the packages come from: wherever this machine has its own from, if that is an archive of Debian.
archive() {
  local found
  found=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -E '/debian/?$' | sort -u | head -n 1 || true)
  printf '%s\n' "${found:-http://deb.debian.org/debian}"
}

base=$home/asterisk
if [ ! -x "$base/root/usr/sbin/asterisk" ]; then
  mkdir -p "$base"
  fresh=$(mktemp -d -p "$base")
  trap 'rm -rf --one-file-system "$fresh"' EXIT
  $step "Debian sid with Asterisk" debootstrap --variant=minbase --include=asterisk,asterisk-modules sid "$fresh" "$(archive)" \
    >"$base/debootstrap.log" || { tail -n 5 "$base/debootstrap.log" && not_run "debootstrap failed; its last words are above"; }
  chmod 755 "$fresh"
  rm -f "$fresh"/var/cache/apt/archives/*.deb
  mv "$fresh" "$base/root"
  trap - EXIT
fi
# What this run leaves when it is broken off, or another has left that was killed.
tidy() { rm -rf "$base"/root/tmp/repartee-test-*; }
trap tidy EXIT
tidy
printf 'asterisk: %s\n' "$(chroot "$base/root" asterisk -V)"

scripts/build-tests.sh
export REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/debug} REPARTEE_HOME=$home
$step "calls through Asterisk" "${inside[@]}" "$0" --in-namespace "$base/root"
