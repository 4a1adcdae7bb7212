#!/bin/bash
# Evaluates and publishes a run when all shards of slurm-shards.sh have ended; 75 if parts are missing.
# Evaluation by a model needs --gres=gpu:1 here, too.
#SBATCH --job-name=batchgen-merge
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.log
exec batchgen run "$@" --merge
