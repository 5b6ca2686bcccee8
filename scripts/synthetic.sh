#!/usr/bin/env bash
# synthetic.sh NAME: makes the synthetic models of a worker's tests in $REPARTEE_HOME/synthetic/NAME, and prints nothing when they
# are there. They have the right format and untrained weights: they prove that loading, batching, streaming and cancelling work,
# and no accuracy. workers/NAME/synthetic/make.py FOLDER makes them, with what workers/NAME/synthetic/requirements.txt names.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
name=$1
source=workers/$name/synthetic
home=${REPARTEE_HOME:-$PWD/.repartee}
folder=$home/synthetic/$name
# Made anew when the script or its requirements change.
sum=$(cat "$source"/*.py "$source/requirements.txt" | sha256sum)
[ "$(cat "$folder/stamp" 2>/dev/null || true)" != "$sum" ] || exit 0
mkdir -p "$home/synthetic"
exec 9>"$home/synthetic/.lock-$name"
flock 9
venv=$home/synthetic/venv-$name
say "making the synthetic models for the tests of the worker $name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" ||
  fail "python3 could not make a virtual environment." "On Debian or Ubuntu:  apt-get install python3-venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: -r "$source/requirements.txt" ||
  fail "the Python packages in $source/requirements.txt could not be installed." "Run the same command again once the index can be reached."
rm -rf "$folder.new"
mkdir -p "$folder.new"
"$venv/bin/python" "$source/make.py" "$folder.new"
printf '%s\n' "$sum" >"$folder.new/stamp"
rm -rf "$folder"
mv "$folder.new" "$folder"
