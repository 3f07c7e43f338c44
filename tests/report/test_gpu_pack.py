"""The pack for an hour of a GPU: its table fits the configs, and its script ends in time, goes on and renders; on a CPU."""
import os
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmkd_plugin.distiller import build_distiller
from mmkd_plugin.report.accuracy import Table
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.overrides import parsed_options

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / 'benchmarks/tables/gpu_cifar100.py'
read = lru_cache(None)(Config.fromfile)


@pytest.mark.slow
def test_the_rows_change_what_the_configs_have(tmp_path, mmpretrain_scope):
    table = Table.from_file(TABLE)
    for row in table.rows:
        cfg = read(ROOT / row.config)
        cfg = derive_search(cfg) if row.stage == 'search' else Config(cfg.to_dict())
        files = {key: 'x.json' if '{' in str(value) else value for key, value in row.overrides.items()}
        cfg.merge_from_dict(parsed_options('--cfg-options', [f'{key}={value}' for key, value in files.items()]))
        images = cfg.train_dataloader.dataset
        assert (images.type, images.padding, images.flip) == ('mmkd.ImagesOnDevice', 4, 0.5)
        innermost = images.dataset.dataset if row.stage == 'search' else images.dataset
        assert {**innermost} == dict(type='CIFAR100', data_root='data/cifar100', split='train', download=False)
        assert cfg.train_cfg.max_epochs == (30 if row.stage == 'train' else 10 if 'dfa' in row.config else 5)
        assert ('dtype' in cfg.optim_wrapper) == (row.stage == 'train')
        assert cfg.default_hooks.checkpoint.interval == 1
        for name, distiller in cfg.model.get('distillers', {}).items():
            build_distiller(name, distiller.to_dict())


@pytest.fixture
def pack(tmp_path):
    """A copy of the scripts, which write beside themselves, with a table of a tiny teacher and student on 16 images."""
    (tmp_path / 'benchmarks').mkdir()
    for name in ('gpu.sh', 'accuracy.py'):
        shutil.copy(ROOT / 'benchmarks' / name, tmp_path / 'benchmarks')
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    for number, image in enumerate(pixels):
        path = tmp_path / f'images/class{number % 2}/{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    images = dict(type='CustomDataset', data_root=str(tmp_path / 'images'), pipeline=[dict(type='LoadImageFromFile')])
    loader = dict(_delete_=True, batch_size=8, num_workers=0, collate_fn=dict(type='default_collate'),
                  sampler=dict(type='DefaultSampler', shuffle=True))
    tests = dict(loader, dataset={**images, 'pipeline': [*images['pipeline'], dict(type='PackInputs')]})
    (tmp_path / 'net.py').write_text(f'''_base_ = {str(ROOT / 'configs/classification/cifar100/resnet20_240e_cifar100.py')!r}
model = dict(backbone=dict(depth=8), head=dict(num_classes=2))
train_cfg = dict(max_epochs=2, val_interval=2)
train_dataloader = {dict(loader, dataset=dict(type='mmkd.ImagesOnDevice', dataset=images, padding=4, flip=0.5))}
val_dataloader = {tests}
test_dataloader = {tests}
default_hooks = dict(checkpoint=dict(interval=1))
''')
    (tmp_path / 'kd.py').write_text(f'''_base_ = './net.py'
custom_imports = dict(imports='mmkd_plugin')
model = dict(_delete_=True, type='mmkd.DistilledModel', student={{{{_base_.model}}}},
             teacher=dict(config={str(tmp_path / 'net.py')!r}), image_shape=(3, 32, 32),
             distillers=dict(kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], temperature=4.0)))
''')
    (tmp_path / 'tiny.py').write_text(f'''metric = 'accuracy/top1'
seeds = [0]
rows = [dict(name='teacher', config={str(tmp_path / 'net.py')!r}),
        dict(name='KD', config={str(tmp_path / 'kd.py')!r}, overrides={{'model.teacher.checkpoint': '{{teacher}}'}})]
''')
    return tmp_path


def run(pack, *flags):
    variables = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'TABLE': str(pack / 'tiny.py'),
                 'OMP_NUM_THREADS': '1'}
    return subprocess.run(['bash', str(pack / 'benchmarks/gpu.sh'), *flags], capture_output=True, text=True, env=variables,
                          check=False)


@pytest.mark.slow
def test_it_ends_in_time_goes_on_and_renders(pack):
    first = run(pack, '--epochs', '2', '--minutes', '0.01')
    assert first.returncode == 0, first.stderr
    assert '2 cells are not finished; the same command goes on' in first.stdout
    assert 'Not measured yet: teacher; KD.' in first.stdout
    assert (pack / 'work_dirs/accuracy/tiny-2e/teacher-seed0/train.log').exists()
    assert not (pack / 'work_dirs/accuracy/tiny-2e/teacher-seed0/trained').exists()
    assert not (pack / 'benchmarks/results').exists()

    (pack / 'benchmarks/results').mkdir()
    second = run(pack, '--epochs', '2', '--minutes', '20')
    assert second.returncode == 0, second.stdout + second.stderr
    assert 'not finished' not in second.stdout
    assert 'Not measured' not in second.stdout
    assert (pack / 'benchmarks/results/tiny-2e.json').exists()
    assert '| teacher | ' in second.stdout
    assert '| KD | ' in second.stdout


def test_a_flag_that_it_does_not_know_is_answered_with_those_it_knows(pack):
    answer = run(pack, '--hours', '1')
    assert answer.returncode == 2
    assert 'usage: bash benchmarks/gpu.sh [--minutes 10]' in answer.stderr
