# Sourced by the set-up scripts: system packages through apt, on Debian and what descends from it.
# shellcheck shell=bash

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# Prints those of the given packages that are not installed.
missing_packages() {
  local installed
  # dpkg-query fails as soon as one package is unknown, and still prints the others.
  installed=$(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii  *//p' || true)
  local package
  for package in "$@"; do
    grep -qxF -- "$package" <<<"$installed" || printf '%s\n' "$package"
  done
}

# Runs a command as root: as it is where we are root, through sudo elsewhere. Never waits for a password without a terminal.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    fail "these packages need root, and there is no sudo here. As root, run:" "apt-get install ${wanted_packages[*]}"
  elif [ -t 0 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# Installs the given packages if they are missing. REPARTEE_SKIP_APT=1 trusts that they are there in some other form.
ensure_packages() {
  wanted_packages=("$@")
  if [ "${REPARTEE_SKIP_APT:-0}" = 1 ]; then
    return 0
  fi
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    fail "this is not Debian or Ubuntu, so the system packages can't be installed for you." \
      "Needed, by their Debian names: $*" \
      "Install what corresponds to them, then go on with:  REPARTEE_SKIP_APT=1 make ${MAKE_GOAL:-run}"
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  wanted_packages=("${missing[@]}")
  say "installing system packages: ${missing[*]}"
  as_root apt-get -q -o DPkg::Lock::Timeout=120 update >/dev/null ||
    say "the package lists could not be refreshed; trying with those that are here"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends "${missing[@]}" ||
    fail "apt could not install: ${missing[*]}" \
      "See its message above. Once they are there, run the same command again."
}
