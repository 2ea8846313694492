#!/usr/bin/env bash
# Installs the project, trains a small model on synthetic people, evaluates it and draws results.
# It writes to .venv, data/ and runs/quickstart/ in this checkout, and fetches BlazePose's files into
# the user's cache folder. --photo=FILE predicts the people of a photograph at the end, with the new
# network and with the keypoint network of this package; other arguments go to pare_jax.main.
set -euo pipefail
photo=""
arguments=()
for argument in "$@"; do
    case $argument in
        --photo=*) photo=$(realpath -- "${argument#--photo=}") ;;
        *) arguments+=("$argument") ;;
    esac
done
if [[ -n $photo && ! -f $photo ]]; then
    echo "quickstart: there is no photograph at $photo" >&2
    exit 2
fi
cd "$(dirname "$0")/.."
source scripts/setup.sh keypoints
workdir=runs/quickstart
.venv/bin/python -m pare_jax.main --config=configs/quickstart.py --workdir="$workdir" \
    "${arguments[@]}"
echo "Result: $workdir/eval/synthetic_test_median.png"
echo "Curves and pictures: .venv/bin/tensorboard --logdir=$workdir"
if [[ -n $photo ]]; then
    predict=(.venv/bin/python -m pare_jax.predict "$photo")
    "${predict[@]}" --checkpoint="$workdir" --output="$workdir/photo"
    "${predict[@]}" --output="$workdir/photo_keypoints"
fi
