#!/usr/bin/env bash
# Makes the environment that the project is tested in: a virtual environment with everything, mmcv built from source.
# Idempotent: a second call finds a stamp of the same requirements and returns at once.
# usage: tools/setup_env.sh [FOLDER]     PYTHON names the interpreter (3.11 or later)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}
stamp="$venv/ready"
# Of pyproject.toml only what decides about the installation counts, not how ruff, mypy and pytest are set.
wanted=$({ cat requirements/constraints.txt setup.py tools/setup_env.sh; sed '/^\[tool/,$d' pyproject.toml; } |
    sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "the known versions need Python 3.11 or later; $python is $("$python" --version). Set PYTHON." >&2
    exit 1
}
step() { echo "[env $(date +%H:%M:%S)] $*"; }
# Constraints do not reach the environments that pip builds source packages in, hence --no-build-isolation for those.
pip() { "$venv/bin/python" -m pip "$@" --disable-pip-version-check --quiet --constraint requirements/constraints.txt; }

step "1/5 virtual environment in $venv ($("$python" --version))"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip install setuptools wheel ninja psutil
step '2/5 torch (up to 3 GB of downloads)'
pip install torch torchvision numpy
step '3/5 mmcv with its operators, from source unless pip kept the wheel (about 12 minutes on 2 cores)'
# Python adds `-g -O3`; debug information of torch's headers and the last optimisations take two thirds of the compiler's time.
export CFLAGS="${CFLAGS--g0 -O2}"
if ! "$venv/bin/python" -c 'import mmcv.ops' 2> /dev/null; then
    # A wheel that was built against another torch imports with an error: then it is built anew.
    MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv
    "$venv/bin/python" -c 'import mmcv.ops' 2> /dev/null || {
        step '    the kept wheel does not fit this torch: building anew'
        MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps mmcv
    }
fi
step '4/5 mmengine, mmdet, mmsegmentation, mmpretrain'
pip install mmengine mmdet mmsegmentation mmpretrain ftfy regex
step '5/5 mmkd_plugin'
pip install --no-build-isolation --editable '.[all,dev]'
# Found, but not imported: whether the environment is ready does not depend on the code that is being worked on.
"$venv/bin/python" -I -c '
from importlib.util import find_spec
import mmcv.ops, mmdet, mmpretrain, mmseg
assert find_spec("mmkd_plugin"), "mmkd_plugin is not installed"'
echo "$wanted" > "$stamp"
step 'ready'
