"""What differs between versions of torch is in one place, and the versions that are asked for are said alike everywhere."""
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from mmkd_plugin.cli.env import BASE
from mmkd_plugin.utils import torch_versions

ROOT = Path(__file__).resolve().parents[2]


def text_of_version(numbers):
    return '.'.join(map(str, numbers))


def test_the_oldest_torch_is_the_same_everywhere():
    oldest = text_of_version(torch_versions.OLDEST)
    assert f"'torch>={oldest}'" in (ROOT / 'pyproject.toml').read_text()
    assert next(need.least for need in BASE if need.name == 'torch') == oldest
    assert f'torch >= {oldest}' in (ROOT / 'README.md').read_text()
    assert re.search(rf'^torch=={re.escape(oldest)}\.', (ROOT / 'requirements/matrix/oldest.txt').read_text(), re.MULTILINE)


def test_an_older_torch_is_one_error_at_import():
    code = "import torch; torch.__version__ = '2.0.1'\nimport mmkd_plugin"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr.splitlines()[-1] == 'ImportError: mmkd_plugin needs torch 2.1 or later, and this is 2.0.1'


def test_nothing_else_asks_torch_for_its_version():
    asking = [str(path.relative_to(ROOT)) for path in (ROOT / 'mmkd_plugin').rglob('*.py')
              if re.search(r'torch\.__version__(\.| *[<>=])|[<>]=? *torch\.__version__', path.read_text())]
    assert asking == ['mmkd_plugin/utils/torch_versions.py']


@pytest.mark.parametrize(('version', 'numbers', 'safe'), [
    ('2.1.2', (2, 1), False), ('2.5.1+cu124', (2, 5), False), ('2.6.0', (2, 6), True), ('2.16.0a0+git1234', (2, 16), True)])
def test_the_numbers_of_a_version_are_read_as_numbers(monkeypatch, version, numbers, safe):
    monkeypatch.setattr(torch, '__version__', version)
    assert torch_versions.release() == numbers
    assert torch_versions.weights_only_is_safe() == safe


def test_attention_has_a_forward_mode_derivative():
    query, direction = torch.rand(1, 2, 4, 8), torch.rand(1, 2, 4, 8)
    with forward_ad.dual_level(), torch_versions.plain_attention():
        dual = forward_ad.make_dual(query, direction)
        found = forward_ad.unpack_dual(F.scaled_dot_product_attention(dual, query, query)).tangent
    step = 1e-3
    expected = (F.scaled_dot_product_attention(query + step * direction, query, query)
                - F.scaled_dot_product_attention(query - step * direction, query, query)) / (2 * step)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-2)
