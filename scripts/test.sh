#!/usr/bin/env bash
# Sets up what the tests need and runs them; arguments go to pytest:
#   scripts/test.sh                              everything
#   scripts/test.sh tests/evaluation/test_metrics.py -k pa  a part of it
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" dev torch onnx demo

# The tests need no accelerator and must not find one busy. A process per core (at most four)
# suits them, for most of their time is compilation, which uses one thread.
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3
cores=$(getconf _NPROCESSORS_ONLN)
exec "$PYTHON" -m pytest -n "$((cores < 4 ? cores : 4))" --dist loadfile "$@"
