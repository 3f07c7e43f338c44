"""``mmkd taps``: what can be compared is seen before a line of a config is written."""
import pytest
from click.testing import CliRunner
from zoo import STUDENTS, distilled, mgd, run_cfg

from mmkd_plugin.cli.main import mmkd


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, width in (('student', 8), ('teacher', 16)):
        run_cfg(STUDENTS['mmseg'](base_channels=width), f'work_dirs/{name}').dump(f'{name}.py')
    run_cfg(distilled(STUDENTS['mmseg'](), mgd=mgd()), 'work_dirs/distilled').dump('distilled.py')


def rows(*words):
    """The tables that are printed, by their titles, and the lines behind them."""
    done = CliRunner().invoke(mmkd, ['taps', *words, '--image-size', '64', '64'])
    assert done.exit_code == 0, done.output
    tables, rest = {}, []
    for line in done.output.splitlines():
        if line.startswith(('student: ', 'teacher')):
            table = tables.setdefault(line.split(':')[0], {})
        elif line.startswith('│'):
            cells = [cell.strip() for cell in line.strip('│').split('│')]
            table[cells[0]] = cells[1:]
        elif '=' in line:
            rest.append(line)
    return tables, rest


def test_every_place_has_its_address_kind_width_stride_and_size_and_pairs_are_suggested(workplace):
    tables, pairs = rows('student.py', '--teacher', 'teacher.py')
    assert tables['student']['backbone.layer4'] == ['stage', '64', '8', '8x8', 'yes', 'yes', 'ResLayer']
    assert tables['teacher']['backbone.layer4'] == ['stage', '128', '8', '8x8', 'yes', 'ResLayer']
    assert tables['student']['decode_head.conv_seg'][:3] == ['logits', '5', '8']
    stages = ', '.join(f"'backbone.layer{stage}@preact'" for stage in (1, 2, 3, 4))
    assert pairs == [f'stages:  pairs=[{stages}]', "logits:  pairs=['decode_head.conv_seg']"]


def test_a_distilled_config_has_both_models(workplace):
    tables, _ = rows('distilled.py')
    assert tables['teacher']['backbone.layer4'][1] == '128'
