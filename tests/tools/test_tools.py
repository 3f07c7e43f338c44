"""tools/train.py and tools/test.py, ours and the upstream ones, as a user calls them."""
import os
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.utils.launch import replace_sync_bn

pytestmark = pytest.mark.slow  # whole trainings in processes of their own
ROOT = Path(__file__).resolve().parents[2]
UPSTREAM = Path(mmseg.__file__).parent / '.mim' / 'tools'
CONFIG = ROOT / 'configs/demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py'
PLAIN = ROOT / 'configs/demo/pspnet_r18w8-d8_demo-64x128.py'


def call(script, *args, check=True, cwd):
    done = subprocess.run([sys.executable, str(script), *map(str, args)], capture_output=True, text=True, cwd=cwd,
                          env={**os.environ, 'OMP_NUM_THREADS': '2'}, check=False)
    if check:
        assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder that is not the repository, with demo data and a teacher's checkpoint."""
    folder = tmp_path_factory.mktemp('workplace')
    write_demo_data(folder / 'data/demo', train=8, val=4)
    cfg = Config.fromfile(ROOT / 'configs/demo/pspnet_r18w32-d8_demo-64x128.py')
    replace_sync_bn(cfg._cfg_dict)
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmseg')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'teacher.pth')
    return folder


def short(*more):
    return ('--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=1',
            'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
            'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'test_dataloader.num_workers=0',
            'test_dataloader.persistent_workers=False', 'custom_hooks.0.num_images=4',
            'model.teacher.checkpoint=teacher.pth', *more)


def test_train_resume_and_test_a_shipped_config(workplace):
    trained = call(ROOT / 'tools/train.py', CONFIG, '--work-dir', 'ours', *short(), cwd=workplace)
    assert trained.stdout.count('every SyncBN of the config is BN') == 1
    assert 'matching update after 0 iterations: 8 images' in trained.stdout  # 4, in whole batches of validation
    assert 'loss_layer4: student backbone.layer4@preact with teacher backbone.layer4@preact' in trained.stdout
    (workplace / 'ours/iter_2.pth').unlink()
    (workplace / 'ours/last_checkpoint').write_text(str(workplace / 'ours/iter_1.pth'))
    resumed = call(ROOT / 'tools/train.py', CONFIG, '--work-dir', 'ours', '--resume', *short(), cwd=workplace)
    assert 'resumed epoch: 0, iter: 1' in resumed.stdout
    tested = call(ROOT / 'tools/test.py', CONFIG, 'ours/iter_2.pth', '--work-dir', 'tested',
                  *short('model.teacher.checkpoint=nowhere.pth'), cwd=workplace)
    assert 'mIoU' in tested.stdout
    plain = [option for option in short() if 'teacher' not in option and 'custom_hooks' not in option]
    as_student = call(ROOT / 'tools/test.py', PLAIN, 'ours/iter_2.pth', '--work-dir', 'tested', *plain, cwd=workplace)
    assert miou(as_student.stdout) == miou(tested.stdout)
    assert 'unexpected key' not in as_student.stdout


def miou(text):
    return [line.split('mIoU:')[1].split()[0] for line in text.splitlines() if 'mIoU:' in line][-1]


def test_the_unmodified_upstream_tools_work(workplace):
    trained = call(UPSTREAM / 'train.py', CONFIG, '--work-dir', 'upstream', *short(), cwd=workplace)
    assert 'matching update' in trained.stdout
    tested = call(UPSTREAM / 'test.py', CONFIG, 'upstream/iter_2.pth', '--work-dir', 'tested', *short(), cwd=workplace)
    assert 'mIoU' in tested.stdout


def test_two_processes_on_a_cpu(workplace):
    command = ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29871', str(ROOT / 'tools/train.py'),
               str(CONFIG), '--work-dir', 'two', '--launcher', 'pytorch', *short()]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=workplace, check=False,
                          env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr[-3000:]
    assert (workplace / 'two/iter_2.pth').exists()


def test_a_checkpoint_that_is_not_there(workplace):
    done = call(ROOT / 'tools/test.py', CONFIG, 'no.pth', cwd=workplace, check=False)
    assert done.returncode != 0
    assert 'checkpoint no.pth not found' in done.stderr


def test_a_missing_teacher_is_one_error_with_the_key(workplace):
    done = call(ROOT / 'tools/train.py', CONFIG, '--work-dir', 'none', *short('model.teacher.checkpoint=none.pth'),
                cwd=workplace, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith(
        "error: model.teacher.checkpoint: 'none.pth' was not found")


def test_a_mistyped_type_is_one_error_with_the_nearest(workplace):
    done = call(ROOT / 'tools/train.py', CONFIG, '--work-dir', 'none', *short('custom_hooks.0.type=mmkd.MatchingUpdatHook'),
                cwd=workplace, check=False)
    assert done.stderr.strip().splitlines()[-1].startswith(
        "error: custom_hooks[0].type: 'mmkd.MatchingUpdatHook' is not known. Did you mean 'mmkd.MatchingUpdateHook'")


@pytest.mark.parametrize(('script', 'arguments', 'text'), [
    ('train', ['none.py'], "error: config: 'none.py' was not found"),
    ('test', ['none.py', 'x.pth'], "error: config: 'none.py' was not found"),
    ('train', [CONFIG, '--work-dir', 'file'], "error: work_dir: 'file' cannot be made or written to"),
    ('train', [CONFIG, '--cfg-options', 'model.type.x=1'], "error: --cfg-options: 'model.type.x=1' does not fit"),
    ('train', [CONFIG, '--cfg-options', 'randomness.seed=x'], "error: randomness.seed: 'x'."),
    ('train', [CONFIG, '--cfg-options', 'optim_wrapper.optimizer.lr=nan'], 'error: optim_wrapper.optimizer.lr: '),
    ('train', [CONFIG, '--cfg-options', 'model.student.backbone.depht=3'], 'error: model.student: cannot be built'),
    ('test', [CONFIG, 'no.pth'], 'error: checkpoint no.pth not found'),
    ('plot', ['none.json'], 'error: '), ('plot', ['none.json', '--out', 'file'], 'error: --out: ')],
    ids=['train', 'test', 'work dir', 'override', 'seed', 'rate', 'student', 'checkpoint', 'plot', 'out'])
def test_a_mistake_ends_in_one_line_with_code_1(workplace, script, arguments, text):
    (workplace / 'file').touch()
    done = call(ROOT / f'tools/{script}.py', *arguments, cwd=workplace, check=False)
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(text), done.stderr[-2000:]


def test_camvid_converter(tmp_path):
    for split in ('train', 'val', 'test'):
        for kind in ('images', 'labels'):
            (tmp_path / 'source' / kind / split).mkdir(parents=True)
        Image.fromarray(np.full((6, 8, 3), 7, np.uint8)).save(tmp_path / 'source/images' / split / 'a.png')
        Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) % 12).save(tmp_path / 'source/labels' / split / 'a.png')
    call(ROOT / 'tools/dataset_converters/camvid.py', 'source', '--out', 'camvid', cwd=tmp_path)
    labels = np.asarray(Image.open(tmp_path / 'camvid/gtFine/test/a_gtFine_labelTrainIds.png'))
    assert sorted(set(labels.flatten())) == [*range(11), 255]
    assert (tmp_path / 'camvid/leftImg8bit/train/a_leftImg8bit.png').exists()
