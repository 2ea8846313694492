#!/usr/bin/env bash
# Installs the project, trains a small model on synthetic people, evaluates it and draws results.
# It writes to .venv, data/ and runs/quickstart/ in this checkout, and fetches BlazePose's files into
# the user's cache folder.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh keypoints
workdir=runs/quickstart
.venv/bin/python -m pare_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
echo "Result: $workdir/eval/synthetic_test_median.png"
echo "Curves and pictures: .venv/bin/tensorboard --logdir=$workdir"
