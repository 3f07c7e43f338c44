"""The runner of accuracy tables, on real (very short) trainings."""
import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.distpro import read_process
from mmkd_plugin.report.accuracy import Row, Table, TableRun
from mmkd_plugin.report.pictures import colourise
from mmkd_plugin.report.results import Cell, commit, read_results, write_results
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import replace_sync_bn

ROOT = Path(__file__).resolve().parents[2]
SHORT = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 1,
         'default_hooks.logger.interval': 1, 'train_dataloader.batch_size': 2, 'train_dataloader.num_workers': 0,
         'train_dataloader.persistent_workers': False, 'val_dataloader.num_workers': 0,
         'val_dataloader.persistent_workers': False, 'test_dataloader.num_workers': 0,
         'test_dataloader.persistent_workers': False}


DISTPRO = 'configs/demo/distpro_pspnet_r18w32-r18w8-d8_demo-64x128.py'


def short_on_data_in(folder):
    """Overrides of a demo config: a short run, on data that is written into a folder."""
    write_demo_data(folder / 'demo', train=6, val=2)
    return {**SHORT, **{f'{split}_dataloader.dataset.data_root': str(folder / 'demo/cityscapes')
                        for split in ('train', 'val', 'test')}}


@pytest.fixture
def run(tmp_path):
    common = short_on_data_in(tmp_path)
    rows = [Row('teacher', 'configs/demo/fpn_r18w32_demo-64x128.py', dict(common), seeds=[0]),
            Row('student alone', 'configs/demo/fpn_r18w16_demo-64x128.py', dict(common)),
            Row('MGD', 'configs/demo/mgd-amp_fpn_r18w32-r18w16_demo-64x128.py',
                {**common, 'model.teacher.checkpoint': '{teacher}', 'custom_hooks.0.num_images': 2})]
    table = Table(rows, seeds=[3], metric='mIoU', split='test')
    before = Path.cwd()
    os.chdir(ROOT)
    yield TableRun(table, tmp_path / 'work', tmp_path / 'results.json')
    os.chdir(before)


@pytest.mark.slow
def test_cells_are_run_once_kept_at_once_and_gone_on_with(run, capsys):
    first = run.run()
    assert set(first) == {'teacher', 'student alone', 'MGD'}
    assert read_results(run.path) == first
    cell = first['MGD']['3']
    assert (cell.commit or '').rstrip('+') == (commit() or '').rstrip('+')  # another test may be writing beside this one
    # Two iterations, each logged: the first is that of the start.
    lines = [json.loads(line) for line in next(run.folder(run.table.rows[2], 3).glob('*/vis_data/scalars.json')).open()]
    assert cell.seconds_per_iteration == next(line['time'] for line in lines if line.get('iter') == 2)
    assert 'MGD, seed 3: mIoU' in capsys.readouterr().out
    log = run.folder(run.table.rows[2], 3) / 'train.log'
    stamp = log.stat().st_mtime_ns

    again = TableRun(run.table, run.work_dir, run.path)
    assert again.run() == first
    assert capsys.readouterr().out == ''

    demo, picture = runpy.run_path('tools/run_demo.py'), run.work_dir / 'picture.png'
    demo['draw'](run, run.work_dir.parent / 'demo', picture)
    width, height = Image.open(picture).size
    assert width > height / 2 > 100
    page = demo['write_page'](run, run.work_dir / 'report.html').read_text()
    assert 'student-alone-seed3' in page
    assert 'mgd-seed3' in page

    # Cut off after its first checkpoint: it goes on from there, and nothing else runs.
    folder = log.parent
    (folder / 'trained').unlink()
    (folder / 'iter_2.pth').unlink()
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_1.pth'))
    write_results(run.path, {name: first[name] for name in ('teacher', 'student alone')})
    third = TableRun(run.table, run.work_dir, run.path)
    third.run()
    assert log.stat().st_mtime_ns > stamp
    assert 'resumed epoch: 0, iter: 1' in log.read_text()
    assert capsys.readouterr().out.count(', seed ') == 1
    assert third.results['teacher'] == first['teacher']


@pytest.mark.slow
def test_a_row_may_be_given_weights_or_the_search_that_its_config_describes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    teacher = Config.fromfile('configs/demo/pspnet_r18w32-d8_demo-64x128.py')
    replace_sync_bn(teacher._cfg_dict)
    init_default_scope('mmseg')
    torch.save(dict(state_dict=MODELS.build(teacher.model).state_dict()), tmp_path / 'teacher.pth')
    common = {**short_on_data_in(tmp_path), 'model.teacher.checkpoint': '{teacher}'}
    searching = {key: value for key, value in common.items() if not key.startswith('val_dataloader')}
    searching['train_dataloader.dataset.dataset.data_root'] = searching.pop('train_dataloader.dataset.data_root')
    tested = {key: value for key, value in common.items() if key.startswith('test_dataloader')}
    rows = [Row('teacher', teacher.filename, tested, seeds=[0], checkpoint=str(tmp_path / 'teacher.pth')),
            Row('search', DISTPRO, searching, seeds=[0], stage='search'),
            Row('DistPro', DISTPRO, {**common, 'model.distillers.distpro.process': '{search:process.json}'})]
    run = TableRun(Table(rows, seeds=[3], metric='mIoU', split='val'), tmp_path / 'work', tmp_path / 'results.json')
    # A search does not validate, and is tested; so are weights that are given, and nothing is trained for them.
    assert set(run.run()) == {'teacher', 'search', 'DistPro'}
    assert not (run.folder(rows[0], 0) / 'train.log').exists()
    process = run.folder(rows[1], 0) / 'process.json'
    assert read_process(process).length == 2
    trained = Config.fromfile(run.folder(rows[2], 3) / Path(DISTPRO).name)
    assert trained.model.teacher.checkpoint == str(tmp_path / 'teacher.pth')
    assert trained.model.distillers.distpro.process == str(process)


def test_label_maps_are_drawn_in_the_palettes_colours():
    labels = np.array([[0, 1], [10, 255]])
    assert colourise(labels, [[1, 2, 3], [4, 5, 6]], background=10).tolist() == [[[1, 2, 3], [4, 5, 6]], [[0] * 3, [0] * 3]]


def test_references_stand_for_files_of_earlier_rows(tmp_path):
    rows = [Row('search', 's.py', seeds=[4]), Row('a b', 't.py'),
            Row('replay', 'r.py', {'process': '{search:process.json}', 'teacher': 'x/{a b}', 'number': 3, 'seed': '{seed}'})]
    run = TableRun(Table(rows, seeds=[0], metric='mIoU'), tmp_path, tmp_path / 'results.json')
    run.folder(rows[1], 0).mkdir()
    (run.folder(rows[1], 0) / 'epoch_2.pth').touch()
    (run.folder(rows[1], 0) / 'last_checkpoint').write_text('/elsewhere/epoch_2.pth')
    assert rows[2].references == ['search', 'a b']
    assert [run._fill(value, seed=7) for value in rows[2].overrides.values()] == [
        f'{tmp_path}/search-seed4/process.json', f'x/{tmp_path}/a-b-seed0/epoch_2.pth', 3, '7']


def test_weights_that_are_given_need_not_be_tested_again_for_a_row_that_wants_them(tmp_path):
    rows = [Row('given', 't.py', checkpoint='weights.pth'), Row('MGD', 'm.py', {'teacher': '{given}'})]
    run = TableRun(Table(rows, seeds=[0], metric='mIoU'), tmp_path, tmp_path / 'results.json')
    assert run._is_missing(rows[0], 0, rows)
    run.results = dict(given={'0': Cell(50.0)})
    assert not run._is_missing(rows[0], 0, rows)
    assert run._fill('{given}', seed=0) == 'weights.pth'


def test_table_files_are_checked(tmp_path):
    path = tmp_path / 'table.py'
    path.write_text("metric = 'mIoU'\nseeds = [0]\nrows = [dict(name='a', confg='x.py')]\n")
    with pytest.raises(DistillationError, match="Did you mean 'config'"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = [0]\nsplit = 'tst'\nrows = [dict(name='a', config='x.py')]\n")
    with pytest.raises(DistillationError, match="Did you mean 'test'"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = [0]\nrows = [dict(name='alone', config='x.py'), "
                    "dict(name='b', config='y.py', overrides={'model.teacher.checkpoint': '{alon}'})]\n")
    with pytest.raises(DistillationError, match="rows.1..overrides: 'alon' is not known. Did you mean 'alone'"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = [0]\nrows = [dict(name='a', config='x.py', stage='serch')]\n")
    with pytest.raises(DistillationError, match="rows.0..stage: 'serch' is not known. Did you mean 'search'"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = [0]\n"
                    "rows = [dict(name='a', config='x.py', stage='search', checkpoint='x.pth')]\n")
    with pytest.raises(DistillationError, match="rows.0..checkpoint: 'x.pth' stands in a row of a search"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = []\nrows = [dict(name='a', config='x.py')]\n")
    with pytest.raises(DistillationError, match="the row 'a' has none"):
        Table.from_file(path)
    path.write_text("metric = 'mIoU'\nseeds = [0]\nalone = 'studnt'\nrows = [dict(name='student', config='x.py')]\n")
    with pytest.raises(DistillationError, match="alone: 'studnt' is not known. Did you mean 'student'"):
        Table.from_file(path)
    assert [row.name for row in Table.from_file(ROOT / 'benchmarks/tables/camvid.py').rows][0] == 'teacher'
