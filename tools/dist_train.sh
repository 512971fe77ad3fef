#!/usr/bin/env bash
# Trains on several GPUs (or, where there is none, in several processes) of one or more nodes.
# Environment variables: NNODES, NODE_RANK, MASTER_ADDR, PORT; MAX_RESTARTS, how often the processes
# of a node are started again after one of them has died. They resume from the newest checkpoint.
set -euo pipefail

if (($# < 2)) || [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
  exit 2
fi
CONFIG=$1
GPUS=$2

TOOLS=$(dirname "${BASH_SOURCE[0]}")
source "$TOOLS/python.sh"
# the same as torchrun's choice, without its warning
((GPUS > 1)) && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "$PYTHON" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$GPUS" \
  --max_restarts="${MAX_RESTARTS:-0}" \
  "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
