"""tools/search.py and tools/plot.py on the demo's shipped configs, as a user calls them: trainings of 3 iterations."""
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.dfa.artefact import read_aggregation
from mmkd_plugin.distpro import read_process
from mmkd_plugin.utils.launch import replace_sync_bn

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = Path(mmseg.__file__).parent / '.mim/tools/train.py'
DEMO = ROOT / 'configs/demo'
DISTPRO, DFA = (DEMO / f'{name}_pspnet_r18w32-r18w8-d8_demo-64x128.py' for name in ('distpro', 'dfa'))
SHORT = ['train_cfg.max_iters=3', 'train_cfg.val_interval=3', 'search.config.train_cfg.max_iters=3',
         'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0',
         'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
         'val_dataloader.persistent_workers=False']


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder that is not the repository, with demo data and what the training of the teacher leaves."""
    folder = tmp_path_factory.mktemp('workplace')
    write_demo_data(folder / 'data/demo', train=20, val=2)
    cfg = Config.fromfile(DEMO / 'pspnet_r18w32-d8_demo-64x128.py')
    replace_sync_bn(cfg._cfg_dict)
    init_default_scope('mmseg')
    checkpoint = folder / 'work_dirs/pspnet_r18w32-d8_demo-64x128/iter_600.pth'
    checkpoint.parent.mkdir(parents=True)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), checkpoint)
    return folder


def call(workplace, script, *arguments, check=True):
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workplace, check=False,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})
    if check:
        assert done.returncode == 0, done.stderr[-3000:]
    return done


def search(workplace, *arguments, check=True):
    return call(workplace, ROOT / 'tools/search.py', *arguments, check=check)


def test_one_command_searches_trains_and_goes_on_after_an_interruption(workplace):
    # The training stumbles; called again, it is the only one to run.
    stopped = search(workplace, DISTPRO, '--then-train', '--work-dir', 'run', '--cfg-options', *SHORT,
                     'optim_wrapper.type=NoOptimWrapper', 'search.config.optim_wrapper.type=OptimWrapper', check=False)
    assert stopped.returncode != 0
    assert 'call this again to go on' in stopped.stderr
    file = workplace / 'run/search/process.json'
    written = file.read_bytes()
    process = read_process(file)
    assert (process.length, len(process.pathways)) == (3, 6)
    assert process.meta['dataset'] == 'CityscapesDataset data/demo/cityscapes/'
    assert process.meta['student'] == DISTPRO.name
    assert process.meta['checkpoint'] == str(Path('work_dirs/pspnet_r18w32-d8_demo-64x128/iter_600.pth'))

    done = search(workplace, DISTPRO, '--then-train', '--work-dir', 'run', '--cfg-options', *SHORT)
    assert f'{Path("run/search")}: finished before' in done.stdout
    assert file.read_bytes() == written
    assert (workplace / 'run/iter_3.pth').exists()

    drawn = call(workplace, ROOT / 'tools/plot.py', file, '--out', 'pictures')
    assert {path.suffix for path in (workplace / 'pictures').iterdir()} == {'.png', '.svg'}, drawn.stdout


def test_an_aggregation_is_searched_and_used_in_the_default_folders(workplace):
    done = search(workplace, DFA, '--then-train', '--cfg-options', *SHORT)
    folder = workplace / 'work_dirs' / DFA.stem
    weights = [group['weights'] for group in read_aggregation(folder / 'search/aggregation.json')['groups']]
    shown = ' '.join(f'{weight:.4f}' for weight in weights[2])
    assert f'backbone.layer4.0@end ... backbone.layer4.1@end (2 layers), weights {shown}' in done.stdout
    assert (folder / 'iter_3.pth').exists()


def test_a_search_that_was_cut_off_goes_on_from_its_last_checkpoint(workplace):
    options = ['--work-dir', 'cut', '--cfg-options', *SHORT]
    search(workplace, DISTPRO, *options)
    folder = workplace / 'cut/search'
    whole = read_process(folder / 'process.json')
    for name in ('finished', 'process.json', 'iter_3.pth'):
        (folder / name).unlink()
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    again = search(workplace, DISTPRO, *options)
    assert 'resumed epoch: 0, iter: 2' in again.stdout
    assert torch.equal(read_process(folder / 'process.json').importance, whole.importance)


def test_the_upstream_tool_takes_the_config_of_a_search(workplace):
    search(workplace, DISTPRO, '--dump', 'dumped/search.py', '--cfg-options', *SHORT)
    assert not (workplace / 'work_dirs' / DISTPRO.stem).exists()  # nothing was run
    call(workplace, UPSTREAM, 'dumped/search.py')
    assert read_process(workplace / 'work_dirs' / DISTPRO.stem / 'search/process.json').length == 3


def test_two_processes_search_on_a_cpu(workplace):
    search(workplace, DISTPRO, '--work-dir', 'two', '--gpus', 2, '--cfg-options', *SHORT)
    assert read_process(workplace / 'two/search/process.json').length == 3


@pytest.mark.parametrize(('arguments', 'text'), [
    (['none.py'], "error: config: 'none.py' was not found"),
    ([DISTPRO, '--gpus', '0'], "--gpus: invalid positive value: '0'"),
    ([DISTPRO, '--dump', 'x.py', '--then-train'], 'error: --dump runs nothing')])
def test_a_mistake_is_one_line_before_anything_runs(workplace, arguments, text):
    done = search(workplace, *arguments, check=False)
    assert done.returncode != 0
    assert text in done.stderr.strip().splitlines()[-1]
