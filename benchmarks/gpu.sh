#!/usr/bin/env bash
# Fills the accuracy table of full CIFAR-100 on one GPU: several trainings side by side, images and their crops on the device,
# bfloat16. Ends after so many minutes and prints the table; call it again to go on, until no cell is missing.
#
# usage: bash benchmarks/gpu.sh [--minutes 10] [--jobs 8] [--epochs 30]
#
# TABLE=FILE is another table in place of benchmarks/tables/gpu_cifar100.py, PYTHON=FILE another Python than .venv's.
set -euo pipefail
cd "$(dirname "$0")/.."
MINUTES=10 JOBS=8 EPOCHS=30
while [ $# -gt 0 ]; do
    case "$1" in
        --minutes) MINUTES=$2 ;;
        --jobs) JOBS=$2 ;;
        --epochs) EPOCHS=$2 ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
TABLE=${TABLE:-benchmarks/tables/gpu_cifar100.py}
export EPOCHS
# Results of other lengths have files and folders of their own.
exec "${PYTHON:-.venv/bin/python}" benchmarks/accuracy.py "$TABLE" --name "$(basename "$TABLE" .py)-${EPOCHS}e" \
    --jobs "$JOBS" --minutes "$MINUTES"
