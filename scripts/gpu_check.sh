#!/bin/sh
# Measures on a GPU all that needs one, within ten minutes, and writes docs/gpu.md.
# Without CUDA it takes tiny shapes, to see that it works.
# scripts/gpu_check.sh [--seconds 540] [--out FILE] [--only tests,waits,...] [--tiny]
set -eu
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || { PYTHON=.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python3; }
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 PYTORCH_NVML_BASED_CUDA_CHECK=1
exec "$PYTHON" -m benchmarks.gpu "$@"
