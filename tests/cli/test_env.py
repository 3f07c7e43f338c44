"""`mmkd env`: what a codebase has against the mmcv that is installed, and packages that bring a module by another name."""
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkd_plugin.cli import env
from mmkd_plugin.cli.env import MMCV, MMENGINE, Need, installed, lost_module, refused_mmcv

CODEBASE = Need('codebase', 'a_codebase')


@pytest.fixture
def codebase(tmp_path, monkeypatch):
    """Writes the ``__init__`` of a codebase beside which an mmcv of some version is installed."""
    def written(text, mmcv):
        (tmp_path / 'a_codebase.py').write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(env, 'installed', lambda need: mmcv if need is MMCV else '3.3')

    yield written
    sys.modules.pop('a_codebase', None)


@pytest.mark.parametrize('says', ["mmcv_maximum_version = '2.2.0'", "MMCV_MAX = '2.2.0'"], ids=['as-mmdet', 'as-mmseg'])
@pytest.mark.parametrize(('mmcv', 'refused'), [('2.1.0', False), ('2.2.0', True), ('2.2.0 (mmcv-lite)', True),
                                               ('2.3.6 (onedl-mmcv)', True)])
def test_an_mmcv_that_a_codebase_refuses_is_said(codebase, says, mmcv, refused):
    codebase(f'import elsewhere\n{says}\nraise AssertionError("not to be imported")\n', mmcv)
    said = f'codebase 3.3 refuses mmcv {mmcv} (pip install "mmcv<2.2.0", or "mmcv-lite<2.2.0")'
    assert refused_mmcv(CODEBASE) == (said if refused else '')


def test_a_codebase_without_a_bound_takes_any_mmcv(codebase):
    codebase('__version__ = "3.5.1"\n', '2.3.6 (onedl-mmcv)')
    assert refused_mmcv(CODEBASE) == ''


@pytest.mark.parametrize(('package', 'module'), [('mmdet', 'mmdet'), ('mmsegmentation', 'mmseg')])
def test_what_the_readme_says_of_a_bound_is_what_the_codebase_says(package, module):
    if not installed(Need(package, module)):
        pytest.skip(f'{package} is not installed, or as OneDL has it, whose packages have no bound')
    assert env.BOUND.search(Path(find_spec(module).origin).read_text())[1] == '2.2.0'


@pytest.mark.parametrize('text', ['import pkg_resources', 'from importlib import metadata'])
@pytest.mark.parametrize('there', [False, True])
def test_what_mmengine_imports_of_an_older_setuptools_is_said_to_be_missing(text, there, tmp_path, monkeypatch):
    (tmp_path / 'utils').mkdir()
    (tmp_path / 'utils/package_utils.py').write_text(f'def is_installed(package):\n    {text}\n')
    found = dict(mmengine=SimpleNamespace(origin=str(tmp_path / '__init__.py')), pkg_resources=there or None)
    monkeypatch.setattr(env, 'find_spec', found.get)
    lost = lost_module(MMENGINE)
    assert lost == ('' if there or 'pkg' not in text else
                    'pkg_resources, which mmengine imports (pip install "setuptools<82")')
    assert lost_module(MMCV) == ''


def test_a_package_of_another_name_counts(monkeypatch):
    def version(name):
        if name != 'onedl-mmcv':
            raise env.PackageNotFoundError
        return '2.3.6'

    monkeypatch.setattr(env, 'version', version)
    assert installed(MMCV) == '2.3.6 (onedl-mmcv)'
