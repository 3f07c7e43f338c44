"""tools/search_then_train.py and tools/plot_process.py, on the demo's shipped configs, as a user calls them."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkd_plugin.core.launch import replace_sync_bn
from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.distpro import read_process

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs/demo'
SEARCH, REPLAY = (DEMO / f'{name}_pspnet_r18w32-r18w8-d8_demo-64x128.py' for name in ('distpro-search', 'distpro'))
SHORT = ['train_cfg.max_iters=3', 'train_cfg.val_interval=3', 'default_hooks.checkpoint.interval=1',
         'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
         'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'model.teacher.checkpoint=teacher.pth']


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder that is not the repository, with demo data and a teacher's checkpoint."""
    folder = tmp_path_factory.mktemp('workplace')
    write_demo_data(folder / 'data/demo', train=20, val=2)
    cfg = Config.fromfile(DEMO / 'pspnet_r18w32-d8_demo-64x128.py')
    replace_sync_bn(cfg._cfg_dict)
    init_default_scope('mmseg')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'teacher.pth')
    return folder


def call(workplace, script, *arguments):
    command = [sys.executable, str(ROOT / 'tools' / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=workplace, check=False,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})


def search_then_train(workplace, *replay):
    return call(workplace, 'search_then_train.py', SEARCH, REPLAY, '--work-dir', 'runs', '--search-options', *SHORT,
                '--replay-options', *SHORT, 'model.distillers.distpro.process={search}/process.json', *replay)


def test_one_command_searches_replays_and_goes_on_after_an_interruption(workplace):
    # The second stage stumbles; called again, it is the only one to run.
    stopped = search_then_train(workplace, 'model.teacher.checkpoint=none.pth')
    assert stopped.returncode != 0
    assert 'Call this again to go on' in stopped.stderr
    file = workplace / 'runs' / SEARCH.stem / 'process.json'
    written = file.read_bytes()
    process = read_process(file, 'process')
    assert (process.length, len(process.pathways)) == (3, 6)
    assert process.meta['dataset'] == 'CityscapesDataset data/demo/cityscapes/'
    assert process.meta['student'] == SEARCH.name

    done = search_then_train(workplace)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'finished before' in done.stdout
    assert file.read_bytes() == written
    assert (workplace / 'runs' / REPLAY.stem / 'iter_3.pth').exists()

    drawn = call(workplace, 'plot_process.py', file, '--out', 'pictures/found')
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert {path.name for path in (workplace / 'pictures').iterdir()} == {'found.png', 'found.svg'}


def test_a_file_that_is_no_process_is_one_error(workplace):
    (workplace / 'no.json').write_text('{}')
    done = call(workplace, 'plot_process.py', 'no.json')
    assert done.stderr.strip().splitlines()[-1].startswith("error: process: 'no.json': is not a process file")


def test_a_missing_config_is_named_before_anything_runs(workplace):
    done = call(workplace, 'search_then_train.py', SEARCH, 'none.py')
    assert 'config none.py not found' in done.stderr
