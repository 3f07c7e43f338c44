"""Every shipped config, built from its file at a small size with random weights, does one training step."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, init_default_scope
from mmengine.structures import PixelData
from zoo import build

from mmkd_plugin.core.config import load_config
from mmkd_plugin.core.launch import replace_sync_bn

ROOT = Path(__file__).resolve().parents[2] / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)


def without_downloads(cfg):
    """Random weights instead of files, BN instead of SyncBN; nothing else changes."""
    replace_sync_bn(cfg._cfg_dict)
    student = cfg.model.get('student', cfg.model)
    if 'pretrained' in student:
        student.pretrained = None
    if cfg.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', cfg.data_preprocessor)  # as the Runner does
    if cfg.model.get('type') == 'mmkd.DistilledModel':
        cfg.model.teacher.checkpoint = None
        cfg.model.teacher.allow_random_weights = True
    return cfg


def segmentation_batch(model, size):
    from mmseg.structures import SegDataSample
    samples = [SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size)) for _ in range(2)]
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.randint(0, model.decode_head.num_classes, (1, *size)))
    return samples


def classification_batch(model, size):
    from mmpretrain.structures import DataSample
    return [DataSample(metainfo=dict(img_shape=size)).set_gt_label(number) for number in range(2)]


SAMPLES = dict(mmseg=segmentation_batch, mmpretrain=classification_batch)


def training_batch(cfg, model, size=(64, 128)):
    return dict(inputs=torch.randn(2, 3, *size), data_samples=SAMPLES[cfg.default_scope](model, size))


def match(model):
    for distiller in model.distillation.distillers.values():
        for stage in getattr(distiller, 'stages', ()):
            channels = torch.randperm(len(stage.margins))[:stage.assignment.numel()]
            stage.assignment.copy_(channels.view_as(stage.assignment))
            stage.matched = True


def test_there_are_configs():
    assert len(CONFIGS) >= 8


@pytest.mark.parametrize('name', CONFIGS)
def test_a_shipped_config_builds_and_does_a_training_step(name):
    cfg = without_downloads(Config.fromfile(ROOT / name))
    init_default_scope(cfg.default_scope)
    model = build(cfg.model).train()
    if getattr(model, 'distillation', None) is not None:
        match(model)
    losses = model(**training_batch(cfg, model), mode='loss')
    loss, log = model.parse_losses(losses)
    loss.backward()
    assert all(torch.isfinite(value).all() for value in log.values())
    without = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert without == []
    for hook in cfg.get('custom_hooks', ()):
        HOOKS.build(hook)


@pytest.mark.parametrize('name', [name for name in CONFIGS if name.split('/')[-1].startswith(('mgd', 'kd'))])
def test_a_distilled_config_fits_on_a_screen_and_changes_nothing_of_its_student(name):
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= 40
    cfg = Config.fromfile(ROOT / name)
    base = re.search(r"_base_ = '(.+)'", text)[1]
    student = load_config(base if '::' in base else str((ROOT / name).parent / base), 'test')
    model = student.model.get('student', student.model)  # a distilled config may build on another
    assert without_scope(cfg.model.student.to_dict()) == without_scope(model.to_dict())
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert without_scope(cfg._cfg_dict.to_dict()[key]) == without_scope(student._cfg_dict.to_dict()[key]), key
    assert '::' in cfg.model.teacher.config, 'a path would depend on the working directory'


def without_scope(node):
    """mmengine notes in `_scope_` which package a block was inherited from."""
    if isinstance(node, dict):
        return {key: without_scope(value) for key, value in node.items() if key != '_scope_'}
    return [without_scope(value) for value in node] if isinstance(node, (list, tuple)) else node
