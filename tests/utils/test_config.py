"""Finding configs by name; the messages about names that are not found are in tests/model/test_errors.py."""
import pytest

from mmkd_plugin.utils.config import find_config
from mmkd_plugin.utils.errors import DistillationError


def test_a_folder_that_python_takes_for_a_package_has_no_configs(tmp_path, monkeypatch):
    (tmp_path / 'bare_folder').mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DistillationError, match="config: 'bare_folder::x.py' names bare_folder, a folder without code"):
        find_config('bare_folder::x.py', 'config')
