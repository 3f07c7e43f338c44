"""mmcv-lite is enough until an operator is called: the placeholder, offered on import and copied beside mmcv."""
import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mmcv
import pytest

from mmkd_plugin.cli.env import OPERATORS, installed
from mmkd_plugin.utils import mmcv_placeholder

ROOT = Path(__file__).resolve().parents[2]
OFFERED = '''
import mmkd_plugin
import mmdet.apis, mmpretrain.apis, mmseg.apis
import mmcv.ops, torch
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.utils.dl_utils import collect_env
from mmcv.utils import collect_env as of_mmcv
from mmkd_plugin.cli.env import OPERATORS, installed
assert of_mmcv()['MMCV Compiler'] == 'not compiled'
assert installed(OPERATORS) is None
model = torch.nn.Conv2d(3, 4, 1)  # mmengine asks whether a layer is one of mmcv's deformable ones
DefaultOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=.1, weight_decay=.1)), dict(norm_decay_mult=0.))(model)
try:
    mmcv.ops.nms(torch.rand(3, 4), torch.rand(3), .5)
except RuntimeError as error:
    assert "mmcv's operator 'nms' was called" in str(error), error
else:
    raise AssertionError('nms ran')
'''
COPIED = '''
import mmcv.ops, sys
from importlib.util import spec_from_file_location, module_from_spec
assert 'mmkd_plugin' not in sys.modules
assert mmcv.ops.get_compiler_version() == 'not compiled'
import mmkd_plugin.cli.env as env
assert env.installed(env.OPERATORS) is None
assert sys.modules['mmcv._ext'].__file__.endswith('_ext.py')
'''


@pytest.fixture
def lite(tmp_path):
    """A folder with an mmcv like mmcv-lite: all of it but the compiled operators."""
    package = Path(mmcv.__file__).parent
    (tmp_path / 'mmcv').mkdir()
    for entry in package.iterdir():
        if not entry.name.startswith('_ext.'):
            (tmp_path / 'mmcv' / entry.name).symlink_to(entry)
    return tmp_path


def run(code, folder):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False,
                          env={**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'})


@pytest.mark.slow
def test_every_codebase_imports_without_operators_and_calling_one_is_one_error(lite):
    done = run(OFFERED, lite)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_copied_beside_mmcv_the_placeholder_needs_no_import_before(lite):
    shutil.copy(mmcv_placeholder.__file__, lite / 'mmcv/_ext.py')
    done = run(COPIED, lite)
    assert done.returncode == 0, done.stderr


def test_the_placeholder_needs_the_standard_library_alone():
    tree = ast.parse(Path(mmcv_placeholder.__file__).read_text())
    imported = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in ast.walk(tree)
                if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert imported <= sys.stdlib_module_names


def test_every_operator_is_there_and_raises_when_called():
    assert callable(mmcv_placeholder.roi_align_forward)
    with pytest.raises(mmcv_placeholder.MissingOperatorError, match="'roi_align_forward' was called.*Install mmcv"):
        mmcv_placeholder.roi_align_forward(1, size=2)
    with pytest.raises(AttributeError):
        mmcv_placeholder.__wrapped__  # noqa: B018 (asked for by tools that inspect modules)


@pytest.mark.skipif(installed(OPERATORS) is None, reason='this environment has no compiled operators')
def test_compiled_operators_are_never_replaced():
    import mmcv._ext
    assert not mmcv._ext.__file__.endswith('.py')
