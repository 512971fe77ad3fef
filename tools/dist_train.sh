#!/usr/bin/env bash
# Trains on several GPUs (or, where there is none, in several processes) of one or more nodes.
# Environment variables: NNODES, NODE_RANK, MASTER_ADDR, PORT; MAX_RESTARTS, how often the processes
# of a node are started again after one of them has died. They resume from the newest checkpoint.
# TORCH_ELASTIC_SHUTDOWN_TIMEOUT: after a signal, seconds until torchrun kills its processes.
set -euo pipefail

if (($# < 2)) || [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG GPUS [arguments of train.py]" >&2
  exit 2
fi
CONFIG=$1
GPUS=$2

TOOLS=$(dirname "${BASH_SOURCE[0]}")
source "$TOOLS/python.sh"
source "$TOOLS/numbers.sh"
check_nodes
check_numbers 0 MAX_RESTARTS
check_numbers 1 TORCH_ELASTIC_SHUTDOWN_TIMEOUT
# the same as torchrun's choice, without its warning
((GPUS > 1)) && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Time to finish an iteration or a validation, and to save. Schedulers have limits of their own.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 # torchrun's own, and SIGUSR1

MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PORT=${PORT:-29500}
if ((${MAX_RESTARTS:-0})); then
  # torchrun would repeat what no restart can mend
  LOCAL_RANK=$((GPUS - 1)) \
    "$PYTHON" "$TOOLS/train.py" "$CONFIG" --check --launcher pytorch "${@:3}" > /dev/null
  DIST_TRAIN_STARTED=$(date +%s) # train.py resumes from a checkpoint that is newer
  export DIST_TRAIN_STARTED
  # Processes that start again need a store without the keys of their first meeting.
  export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  RENDEZVOUS=(--rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$PORT" --max_restarts="$MAX_RESTARTS")
else
  RENDEZVOUS=(--node_rank="${NODE_RANK:-0}" --master_addr="$MASTER_ADDR" --master_port="$PORT")
fi

exec "$PYTHON" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  "${RENDEZVOUS[@]}" \
  --nproc_per_node="$GPUS" \
  "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
