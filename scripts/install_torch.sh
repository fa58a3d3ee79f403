#!/bin/sh
# Install PyTorch's CPU build (some 200 MB instead of gigabytes) on Linux without an NVIDIA card; usage: PYTHON [default].
# Does nothing elsewhere, with "default", or where that index cannot be reached: requirements.txt then brings the usual build.
set -eu
python=$1
[ "${2:-}" != default ] && [ "$(uname -s)" = Linux ] || exit 0
command -v nvidia-smi >/dev/null 2>&1 && exit 0
"$python" -c 'import torch' 2>/dev/null && exit 0
torch=$(grep -E '^torch==' "$(dirname "$0")/../requirements.txt")
"$python" -m pip install --quiet --disable-pip-version-check --timeout 10 --retries 0 --no-deps \
    --index-url https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null ||
    echo "PyTorch's index of CPU builds cannot be reached; taking the default build ..."
