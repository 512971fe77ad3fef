#!/usr/bin/env bash
# Tests a checkpoint as a Slurm job. Environment variables: GPUS, GPUS_PER_NODE, CPUS_PER_TASK,
# SRUN_ARGS.
set -euo pipefail

if (($# < 4)); then
  echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2
  exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
CHECKPOINT=$4

TOOLS=$(dirname "${BASH_SOURCE[0]}")
source "$TOOLS/python.sh"
source "$TOOLS/numbers.sh"
check_numbers 1 GPUS GPUS_PER_NODE CPUS_PER_TASK
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}

# shellcheck disable=SC2086  # SRUN_ARGS holds several words
exec srun \
  --partition="$PARTITION" \
  --job-name="$JOB_NAME" \
  --gres=gpu:"$GPUS_PER_NODE" \
  --ntasks="$GPUS" \
  --ntasks-per-node="$GPUS_PER_NODE" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  "$PYTHON" -u "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher slurm "${@:5}"
