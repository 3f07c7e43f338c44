#!/usr/bin/env bash
# Trains on several GPUs of one or more machines, by torchrun.
# usage: tools/dist_train.sh CONFIG GPUS [flags of tools/train.py]     NNODES, NODE_RANK, MASTER_ADDR, PORT as upstream
set -euo pipefail
config=$1
gpus=$2
folder=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$folder/..:${PYTHONPATH:-}" python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$gpus" --master_port="${PORT:-29500}" \
    "$folder/train.py" "$config" --launcher pytorch "${@:3}"
