#!/usr/bin/env bash
# container-runtime.sh ENGINES: makes a bare Debian or Ubuntu the one that Repartee runs on in its container: packages, the user, the
# folders that it may write. ENGINES names the further workers, a line each. Needs root; changes the system, so only for images.
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh
engines=$1

packages=(
  # The default recogniser and voices.
  libpocketsphinx3 pocketsphinx-en-us libflite1
  # Certificates for language models behind TLS; what C++ libraries need.
  ca-certificates libstdc++6
  # AVA's own health check runs `python - <<PY` with websockets in the container, and its tools `docker exec … python3`.
  python3 python-is-python3 python3-websockets
)
while read -r worker; do
  case $worker in
    sherpa) packages+=(espeak-ng) ;;
    whisper | llama) packages+=(libgomp1) ;;
  esac
done <"$engines"
ensure_packages "${packages[@]}"
rm -rf /var/lib/apt/lists/*

# 1000 is the user whose files AVA's containers write, on most machines the first one that was made.
useradd --uid 1000 --create-home --shell /usr/sbin/nologin repartee
# The last is where the sherpa worker keeps Piper voices as it needs them.
install -d -o repartee -g repartee /app/models /app/data /usr/local/lib/repartee/cache
