#!/usr/bin/env bash
# Trains as a Slurm job. Environment variables: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
# In a job of `sbatch --requeue --signal=USR1@120`, the training saves two minutes before the time is
# over, and the job is queued again and resumes.
set -euo pipefail

if (($# < 3)); then
  echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
  exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3

TOOLS=$(dirname "${BASH_SOURCE[0]}")
source "$TOOLS/python.sh"
source "$TOOLS/numbers.sh"
check_numbers 1 GPUS GPUS_PER_NODE CPUS_PER_TASK
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}

# SIGUSR1 must not end what has not begun to train: that looks like a training that has saved.
start='trap "" USR1; exec "$@"'

status=0
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
srun \
  --partition="$PARTITION" \
  --job-name="$JOB_NAME" \
  --gres=gpu:"$GPUS_PER_NODE" \
  --ntasks="$GPUS" \
  --ntasks-per-node="$GPUS_PER_NODE" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  bash -c "$start" bash "$PYTHON" -u "$TOOLS/train.py" "$CONFIG" --launcher slurm "${@:4}" || status=$?

# what a training ends with that has saved after SIGUSR1
if ((status == 128 + $(kill -l USR1))); then
  if [[ -z ${SLURM_JOB_ID:-} ]] || ! scontrol requeue "$SLURM_JOB_ID"; then
    echo "$0: the training has saved, but is not queued again: run it again with --resume" >&2
  fi
fi
exit "$status"
