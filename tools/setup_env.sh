#!/usr/bin/env bash
# Makes an environment, or finds one that will do. Idempotent: where the stamp is that of the same requirements, it returns at once.
#
#   full    everything the project is tested in, mmcv built from source with its operators: 15 minutes on 2 cores, a C++ compiler
#   lite    segmentation and classification: mmcv-lite with a placeholder for the operators; no compiler, 2 minutes and the downloads
#   demo    the full one where it is there, otherwise the lite one
#   corner  one of the environments of tools/run_matrix.py: requirements/matrix/NAME.txt, the placeholder, the tests; NAME is that of FOLDER
#
# usage: tools/setup_env.sh [full|lite|demo|corner] [FOLDER]    by default full, in .venv; lite in .venv-lite
# PYTHON names the interpreter (3.11 or later, but for a corner). What is done is said on standard error; standard output is the folder.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-full}
python=${PYTHON:-python3}
# Of pyproject.toml only what decides about the installation counts, not how ruff, mypy and pytest are set.
wanted=$({ cat requirements/constraints.txt setup.py tools/setup_env.sh mmkd_plugin/utils/mmcv_placeholder.py
           [ "$mode" != corner ] || cat "requirements/matrix/$(basename "$2").txt"
           sed '/^\[tool/,$d' pyproject.toml; } | sha256sum | cut -d' ' -f1)
is_ready() { [ -f "$1/ready" ] && [ "$(cat "$1/ready")" = "$wanted" ]; }
step() { echo "[env $(date +%H:%M:%S)] $*" >&2; }
# Constraints do not reach the environments that pip builds source packages in, hence --no-build-isolation for those.
pip() { "$venv/bin/python" -m pip "$@" --disable-pip-version-check --quiet --constraint requirements/constraints.txt >&2; }

known_python() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "the known versions need Python 3.11 or later; $python is $("$python" --version). Set PYTHON." >&2
        exit 1
    }
}

make_venv() {
    step "1/$1 virtual environment in $venv ($("$python" --version))"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
}

full() {
    known_python
    make_venv 5
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
}

lite() {
    known_python
    make_venv 3
    step '2/3 torch (up to 3 GB of downloads), mmcv-lite, mmsegmentation, mmpretrain, mmkd_plugin; nothing is compiled'
    pip install --no-compile setuptools wheel
    # Modules become bytecode when they are first used: of torch alone there are thousands that never are.
    pip install --no-compile --only-binary :all: --no-build-isolation mmcv-lite --editable '.[seg,cls,demo]'
    step "3/3 a placeholder for mmcv's operators"
    placeholder
    "$venv/bin/python" -I -c 'import mmcv.ops, mmpretrain.models, mmseg.apis'
}

corner() {
    local packages
    packages=requirements/matrix/$(basename "$venv").txt
    make_venv 3
    step "2/3 $packages (up to 3 GB of downloads), mmkd_plugin"
    # By the variable, so that constraints hold where pip builds a source package, and in place of those of pip's own config.
    PIP_CONSTRAINT=$packages "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-compile \
        --requirement "$packages" >&2
    # Its dependencies are in the file: OneDL's packages bring the same modules by other names, which pip does not know.
    "$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --editable . >&2
    step "3/3 a placeholder for mmcv's operators"
    placeholder
    "$venv/bin/python" -I -c 'import mmcv.ops, mmdet, mmpretrain.models, mmseg.apis'
}

placeholder() {
    local mmcv
    mmcv=$("$venv/bin/python" -I -c 'import importlib.util; print(importlib.util.find_spec("mmcv").submodule_search_locations[0])')
    cp mmkd_plugin/utils/mmcv_placeholder.py "$mmcv/_ext.py"
}

case $mode in
    demo) if [ -f .venv/ready ]; then mode=full; else mode=lite; fi ;;
    full | lite | corner) ;;
    *) echo "usage: tools/setup_env.sh [full|lite|demo|corner] [FOLDER]; not $mode" >&2; exit 2 ;;
esac
if [ "$mode" = full ]; then venv=${2:-.venv}; else venv=${2:-.venv-lite}; fi
if ! is_ready "$venv"; then
    "$mode"
    echo "$wanted" > "$venv/ready"
    step 'ready'
fi
echo "$venv"
