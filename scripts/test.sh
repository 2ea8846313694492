#!/usr/bin/env bash
# Installs the tests' requirements and runs the tests; arguments are passed to pytest:
#   scripts/test.sh                                         all tests
#   scripts/test.sh tests/evaluation/test_metrics.py -k pa  some tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev torch onnx demo heif keypoints

# The tests run on the CPU, as a GPU may be busy. They use a process per core, at most four:
# most of their time is compilation, which uses one thread.
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3
cores=$(getconf _NPROCESSORS_ONLN)
exec "$PYTHON" -m pytest -n "$((cores < 4 ? cores : 4))" --dist loadfile "$@"
