#!/bin/bash
# Makes the parts of a run on many nodes that share its output folder. Submit it, and the script that publishes after it:
#
#   shards=$(sbatch --parsable slurm-shards.sh job.yaml)
#   sbatch --dependency=afterok:$shards slurm-merge.sh job.yaml
#
# SHARDS is the number of tasks in --array. Some of them again: sbatch --array=3,7 slurm-shards.sh job.yaml
#SBATCH --job-name=batchgen
#SBATCH --array=0-15
#SBATCH --gres=gpu:1
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -uo pipefail
SHARDS=${SHARDS:-16}

# In the background, so that the shell can pass on the signal that Slurm sends it.
batchgen run "$@" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" &
shard=$!
trap 'kill -TERM "$shard" 2>/dev/null' TERM
wait "$shard"
code=$?
trap - TERM
if kill -0 "$shard" 2>/dev/null; then # the wait was interrupted by the signal: the shard saves its rows
    wait "$shard"
    code=$?
fi

# Stopped early (75) or by a signal (128 and more): the same task again, which resumes.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
