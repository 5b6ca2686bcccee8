#!/usr/bin/env bash
# container-install.sh ENGINES DESTINATION PROGRAMS: lays the files of the container image below DESTINATION, as they will lie below
# its root: the programs out of the folder PROGRAMS, what the set-up fetched, the licences. ENGINES names the further workers.
set -euo pipefail
cd "$(dirname "$0")/.."
engines=$1
destination=$2
programs=$3
home=${REPARTEE_HOME:-$PWD/.repartee}

install -d "$destination/usr/local/bin" "$destination/usr/local/lib/repartee" "$destination/usr/share/doc/repartee"
install "$programs/repartee" "$destination/usr/local/bin"
while read -r worker; do
  install "$programs/repartee-worker-$worker" "$destination/usr/local/bin"
done < <(printf 'pocketsphinx\nflite\n' && cat "$engines")

# Not the whole folder: it also holds caches and what tests have made.
folders=(lib models)
if grep -qx sherpa "$engines"; then folders+=(sherpa); fi
for folder in "${folders[@]}"; do
  # REPARTEE_SKIP_WHEELS leaves some out, which the engine tells when it starts.
  if [ -d "$home/$folder" ]; then cp -rT "$home/$folder" "$destination/usr/local/lib/repartee/$folder"; fi
done
chmod -R go+rX,go-w "$destination/usr/local/lib/repartee"
install -m 644 LICENSE LICENSE-MIT LICENSE-APACHE "$destination/usr/share/doc/repartee"
