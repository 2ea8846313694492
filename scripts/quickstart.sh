#!/usr/bin/env bash
# Set up, train a small model on synthetic people, evaluate it and draw what it sees.
# Everything stays in this checkout: .venv, data/ and runs/quickstart/.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""
workdir=runs/quickstart
.venv/bin/python -m pare_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
echo "Look at $workdir/eval/synthetic_test_median.png; curves and pictures: .venv/bin/tensorboard --logdir=$workdir"
