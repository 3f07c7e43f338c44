"""``mmkd train``, ``distill`` and ``export``, as a user calls them: trainings of a few iterations on toy data."""
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkd_plugin.cli.export import export
from mmkd_plugin.cli.init import Request, init
from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.utils.launch import replace_sync_bn

pytestmark = pytest.mark.slow  # whole trainings in processes of their own
ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = Path(mmseg.__file__).parent / '.mim/tools'
DEMO = ROOT / 'configs/demo'
TEACHER, STUDENT = (DEMO / f'pspnet_r18w{width}-d8_demo-64x128.py' for width in (32, 8))
SHORT = ['train_cfg.max_iters=4', 'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2',
         'train_dataloader.batch_size=2', *(f'{loader}_dataloader.{key}' for loader in ('train', 'val', 'test')
                                            for key in ('num_workers=0', 'persistent_workers=False'))]


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder that is not the repository, with demo data and a teacher's checkpoint."""
    folder = tmp_path_factory.mktemp('workplace')
    write_demo_data(folder / 'data/demo', train=8, val=2)
    cfg = Config.fromfile(TEACHER)
    replace_sync_bn(cfg._cfg_dict)
    init_default_scope('mmseg')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'teacher.pth')
    return folder


def mmkd(workplace, *arguments, fails=False):
    done = subprocess.run([sys.executable, '-m', 'mmkd_plugin', *map(str, arguments)], capture_output=True, text=True,
                          cwd=workplace, check=False,  # what other packages warn of is not counted
                          env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'})
    assert (done.returncode != 0) == fails, (done.stdout + done.stderr)[-3000:]
    return done


def test_one_command_distils_and_the_student_is_exported(workplace):
    asked = ['distill', STUDENT, '--teacher', TEACHER, '--checkpoint', 'teacher.pth', '-o', 'mine.py', '--work-dir', 'run',
             '--cfg-options', *SHORT]
    done = mmkd(workplace, *asked)
    assert 'mgd.pairs = ' in done.stdout
    assert done.stdout.index('mgd.pairs = ') < done.stdout.index('found: 0 errors') < done.stdout.rindex('mIoU')
    assert 'interval: a matching at the start and after 1, 2, 3 of 4 iterations, with 2 images each' in done.stdout
    assert 'mIoU' in done.stdout
    assert 'train_pipeline' not in done.stdout  # the text of the config
    assert 'train_pipeline' in next((workplace / 'run').glob('*/*.log')).read_text()

    page = (workplace / 'run/report.html').read_text()
    for text in ('Task and distillation, weighted', 'Mean cost of the matched channels', 'data:image/jpeg',
                 'distillation: mgd', 'What to try next'):
        assert text in page

    exported = export(workplace / 'run', out=workplace / 'out')
    assert (exported.source.name, exported.needs_package) == ('iter_4.pth', False)
    # In a process that does not know this package.
    code = ("from mmengine.config import Config; from mmseg.apis import init_model; import sys; "
            "init_model(Config.fromfile('out/mine_student.py'), 'out/mine_student.pth', device='cpu'); "
            "assert 'mmkd_plugin' not in sys.modules")
    done = subprocess.run([sys.executable, '-c', code], cwd=workplace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    content = torch.load(workplace / 'out/mine_student.pth')
    assert set(content) == {'state_dict', 'meta'}
    published = [sys.executable, str(UPSTREAM / 'misc/publish_model.py'), 'out/mine_student.pth', 'published.pth']
    done = subprocess.run(published, cwd=workplace, capture_output=True, text=True, check=False)  # it opens no training's
    assert done.returncode == 0, done.stderr[-2000:]
    before = {path.name for path in (workplace / 'run').iterdir()}
    done = mmkd(workplace, 'test', 'out/mine_student.py', 'out/mine_student.pth')
    assert 'mIoU' in done.stdout
    assert (workplace / 'work_dirs/mine_student').is_dir()
    assert {path.name for path in (workplace / 'run').iterdir()} == before


def test_a_mistake_is_the_last_of_few_lines_and_leaves_no_folder_behind(workplace):
    options = ['--cfg-options', *SHORT, 'model.teacher.checkpoint=none.pth']
    distilled = DEMO / 'mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py'
    done = mmkd(workplace, 'train', distilled, '--work-dir', 'not/there', *options, fails=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert lines[-1].startswith("error: model.teacher.checkpoint: 'none.pth' was not found")
    assert len(lines) < 20, lines
    assert not (workplace / 'not').exists()


def test_a_method_that_searches_is_searched_first(workplace):
    init(Request(str(STUDENT), str(TEACHER), str(workplace / 'teacher.pth'), ['distpro'], workplace / 'dp.py'))
    short = [*SHORT, 'search.config.train_cfg.max_iters=2']
    done = mmkd(workplace, 'train', 'dp.py', '--cfg-options', *short)
    assert (workplace / 'work_dirs/dp/search/process.json').is_file()
    assert (workplace / 'work_dirs/dp/iter_4.pth').is_file()
    assert done.stdout.index('search: wrote') < done.stdout.rindex('distillation: distpro')
