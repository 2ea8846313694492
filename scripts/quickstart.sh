#!/usr/bin/env bash
# Installs the project, trains a small model on synthetic people, evaluates it and draws results.
# It writes only to .venv, data/ and runs/quickstart/ in this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh ""
workdir=runs/quickstart
.venv/bin/python -m pare_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
echo "Result: $workdir/eval/synthetic_test_median.png"
echo "Curves and pictures: .venv/bin/tensorboard --logdir=$workdir"
