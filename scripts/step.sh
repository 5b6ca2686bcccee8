#!/usr/bin/env bash
# step.sh NAME COMMAND…: runs the command and says how long it took, whether it worked or not.
set -u
name=$1
shift
printf '== %s\n' "$name"
SECONDS=0
"$@"
status=$?
if [ "$status" -eq 0 ]; then
  printf '== %s: %d s\n' "$name" "$SECONDS"
else
  printf '== %s: FAILED after %d s (exit %d)\n' "$name" "$SECONDS" "$status" >&2
fi
exit "$status"
