#!/bin/sh
# Install torch into the environment of the Python given as $1, its CPU build where there is one: on Linux the default
# build brings gigabytes of CUDA libraries that nothing here uses.  $2 is another version than that of the extra `train`:
# 2.8.0 for `ipex`.
set -eu

python=$1
version=${2:-2.13.0}
cpu_index=https://download.pytorch.org/whl/cpu

if "$python" -c "import sys, torch; sys.exit(torch.__version__.split('+')[0] != '$version')" 2>/dev/null; then
    exit 0
fi

echo "Installing torch $version, CPU build, from the configured package index"
if "$python" -m pip install --quiet "torch==$version+cpu" 2>/dev/null; then
    exit 0
fi
echo "Not there; trying $cpu_index"
if "$python" -m pip install --quiet --timeout 15 --retries 1 --extra-index-url "$cpu_index" "torch==$version+cpu"; then
    exit 0
fi
echo "No CPU build for this platform or no way to it; installing the default build of torch $version"
exec "$python" -m pip install --quiet "torch==$version"
