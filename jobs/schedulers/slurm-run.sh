#!/bin/bash
# Runs a job on one node: sbatch slurm-run.sh nightly.yaml
# Two minutes before the time limit, the run saves the rows that are finished, and is queued again to resume.
#SBATCH --job-name=batchgen
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

# In the background, so that the shell can pass on the signal that Slurm sends it.
batchgen run "$@" &
run=$!
trap 'kill -TERM "$run" 2>/dev/null' TERM
wait "$run"
code=$?
trap - TERM
if kill -0 "$run" 2>/dev/null; then # the wait was interrupted by the signal: the run saves its rows
    wait "$run"
    code=$?
fi

# Stopped early (75) or by a signal (128 and more).
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
