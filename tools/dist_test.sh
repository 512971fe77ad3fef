#!/usr/bin/env bash
# Tests a checkpoint on several GPUs (or, where there is none, in several processes) of one or
# more nodes. Environment variables: NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail

if (($# < 3)) || [[ ! $3 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
  exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3

TOOLS=$(dirname "${BASH_SOURCE[0]}")
source "$TOOLS/python.sh"
source "$TOOLS/numbers.sh"
check_nodes
# the same as torchrun's choice, without its warning
((GPUS > 1)) && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "$PYTHON" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" \
  --master_port="${PORT:-29500}" \
  --nproc_per_node="$GPUS" \
  "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
