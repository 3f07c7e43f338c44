"""Finding configs by name; the messages about names that are not found are in tests/model/test_errors.py."""
from importlib.metadata import PackageNotFoundError

import pytest
from mmengine.config.utils import MODULE2PACKAGE

from mmkd_plugin.utils import config
from mmkd_plugin.utils.config import find_config, load_config, name_packages_of_onedl
from mmkd_plugin.utils.errors import DistillationError


def test_a_folder_that_python_takes_for_a_package_has_no_configs(tmp_path, monkeypatch):
    (tmp_path / 'bare_folder').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DistillationError, match="config: 'bare_folder::x.py' names bare_folder, a folder without code"):
        find_config('bare_folder::x.py', 'config')


@pytest.mark.parametrize('base', ['mmseg::_base_/default_runtime.py', 'mmdet::_base_/default_runtime.py',
                                  'mmpretrain::_base_/default_runtime.py'])
def test_a_config_of_each_codebase_is_a_base_whoever_packed_it(base, tmp_path):
    (tmp_path / 'child.py').write_text(f"_base_ = '{base}'")
    assert load_config(str(tmp_path / 'child.py'), 'config').log_level == 'INFO'


@pytest.mark.parametrize(('there', 'name'), [(True, 'onedl-mmsegmentation'), (False, 'mmsegmentation')])
def test_mmengine_is_told_the_name_of_the_package_that_is_there(there, name, monkeypatch):
    def distribution(package):
        if not there:
            raise PackageNotFoundError(package)

    monkeypatch.setattr(config, 'distribution', distribution)
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    name_packages_of_onedl()
    assert MODULE2PACKAGE['mmseg'] == name
