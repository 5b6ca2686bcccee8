#!/usr/bin/env bash
# Measures what docs/performance.md tells: the costs of the parts, then whole calls. Called by `make bench`.
#
#   scripts/bench.sh                      everything, some twelve minutes
#   scripts/bench.sh --quick              a smoke run
#   scripts/bench.sh --json report.json --markdown report.md --only latency,cost
#
# The report runs the server as a bench, which is built like a release.
set -euo pipefail
cd "$(dirname "$0")/.."
step=scripts/step.sh
target=${TARGET:-$PWD/target}
export REPARTEE_WORKERS=${REPARTEE_WORKERS:-$target/release}

parts=(audio vad session)
worker_link="cargo bench --locked -p repartee --bench worker_link --"
if [ "${1:-}" = --quick ]; then
  # Criterion's own test mode: each bench runs once.
  for part in "${parts[@]}"; do $step "$part (once)" cargo bench --locked -p repartee --bench "$part" -- --test; done
  $step "worker_link (builds)" $worker_link --test
elif [[ " $* " != *" --only "* ]]; then
  # One second for each figure says as much as five do, on a machine that others use too.
  for part in "${parts[@]}"; do
    $step "$part" cargo bench --locked -p repartee --bench "$part" -- --warm-up-time 0.3 --measurement-time 1
  done
  $step "fake worker" cargo build --locked --profile bench -p repartee-worker-shell --examples
  # It isn't criterion's; the report shows its lines.
  $step "worker_link" $worker_link | tee "$target/worker-link.txt"
fi
$step "report" cargo bench --locked -p repartee --bench report -- "$@"
