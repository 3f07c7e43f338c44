"""The demo: what it trains, and the teacher that is shipped for it."""
import runpy
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmkd_plugin.datasets.demo_scenes import write_demo_data
from mmkd_plugin.model.default_checkpoint import default_checkpoint
from mmkd_plugin.utils.launch import replace_sync_bn

ROOT = Path(__file__).resolve().parents[2]
NAME = 'demo/fpn_r18w32_demo-64x128.py'
SCENES = 20


def test_every_distilled_row_has_the_student_that_stands_alone_and_the_teacher_that_is_tested():
    teacher, alone, *distilled = runpy.run_path(str(ROOT / 'tools/run_demo.py'))['demo_table']([0, 1]).rows
    assert (teacher.config, teacher.checkpoint) == (f'configs/{NAME}', f'configs/{NAME}'.replace('.py', '.pth'))
    student = Config.fromfile(ROOT / alone.config)
    assert [row.seeds for row in (teacher, alone, *distilled)] == [[0], *[[0, 1]] * 4]
    for row in distilled:
        cfg = Config.fromfile(ROOT / row.config)
        assert cfg.model.teacher == dict(config=f'mmkd_plugin::{NAME}')
        assert cfg.model.student == student.model
        assert cfg.train_cfg == student.train_cfg
        assert cfg.train_dataloader == student.train_dataloader


@pytest.mark.slow
def test_the_teacher_that_is_shipped_knows_digits_that_it_has_not_seen(tmp_path, monkeypatch):
    from mmseg.apis import inference_model, init_model
    monkeypatch.chdir(tmp_path)  # where nothing has been trained
    cfg = Config.fromfile(ROOT / 'configs' / NAME)
    weights = Path(default_checkpoint(f'mmkd_plugin::{NAME}', cfg))
    assert weights.stat().st_size <= 2e6
    replace_sync_bn(cfg._cfg_dict)
    model = init_model(cfg, str(weights), device='cpu')
    write_demo_data(tmp_path, train=0, val=SCENES)
    pairs = np.zeros((256, 256), int)
    for image in sorted((tmp_path / 'cityscapes/leftImg8bit/val/demo').iterdir()):
        label = tmp_path / 'cityscapes/gtFine/val/demo' / image.name.replace('leftImg8bit', 'gtFine_labelTrainIds')
        found = inference_model(model, str(image)).pred_sem_seg.data[0].numpy()
        np.add.at(pairs, (np.asarray(Image.open(label)), found), 1)
    there = pairs.sum(1) > 0
    assert there.sum() == 11  # every digit, and the background
    overlap = pairs.diagonal() / (pairs.sum(0) + pairs.sum(1) - pairs.diagonal()).clip(1)
    assert overlap[there].mean() > 0.8
