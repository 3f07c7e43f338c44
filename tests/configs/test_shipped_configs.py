"""Every shipped config, built from its file at a small size with random weights, does one training step."""
import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from zoo import build

from mmkd_plugin.dfa.hook import start_search
from mmkd_plugin.distiller import Batch
from mmkd_plugin.distpro import DistProDistiller
from mmkd_plugin.distpro.search import ProcessSearch
from mmkd_plugin.mgd.hook import MatchingUpdateHook
from mmkd_plugin.mgd.update_data import evaluation_view_of_training_data
from mmkd_plugin.model.default_checkpoint import default_checkpoint
from mmkd_plugin.report.accuracy import Table
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.search.validation import validation_loader
from mmkd_plugin.taps import TapInfo
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import replace_sync_bn

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # every shipped config is built: minutes

ROOT = REPOSITORY / 'configs'
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
DISTPRO, DFA = 'mmkd.DistProDistiller', 'mmkd.FeatureAggregationDistiller'
# Beside those in the accuracy tables.
MEASURED = ['demo/pspnet_r18w32-d8_demo-64x128.py', 'demo/pspnet_r18w8-d8_demo-64x128.py',
            'demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py',
            *(name for name in CONFIGS if name.startswith('demo/') and 'fpn' in name),
            *(name for name in CONFIGS if '/7scenes/' in name)]


def is_distilled(path):
    """Whether a config, or one of this repository that it builds on, overlays a student."""
    text = path.read_text()
    base = re.search(r"_base_ = '(\..+)'", text)
    return 'mmkd.DistilledModel' in text or (base is not None and is_distilled(path.parent / base[1]))


read = lru_cache(None)(Config.fromfile)  # half a second a time: each is read by several tests
load = lru_cache(None)(load_config)


def shipped(name):
    """A shipped config, for the caller to change."""
    return deepcopy(read(ROOT / name))


DISTILLED = [name for name in CONFIGS if is_distilled(ROOT / name)]
SEARCHED = [name for name in DISTILLED if '\nsearch = ' in (ROOT / name).read_text()]  # an ablation has that of its base


def test_every_config_of_cifar100_20_measures_the_format_of_its_student():
    names = [name for name in CONFIGS if '/cifar100-20/' in name]
    assert len(names) >= 20
    for name in names:
        assert shipped(name).default_hooks.format == dict(type='mmkd.ChannelsLastHook')


def test_every_distilled_config_of_cifar100_20_measures_how_its_teacher_runs():
    names = [name for name in DISTILLED if '/cifar100-20/' in name]
    assert len(names) >= 16
    for name in names:
        assert shipped(name).model.teacher.runtime == 'auto'


def derived(name):
    """The config of the search of a shipped config."""
    return derive_search(shipped(name))


def without_downloads(cfg):
    """Random weights and equal weighting instead of files, BN instead of SyncBN; nothing else changes."""
    replace_sync_bn(cfg._cfg_dict)
    student = cfg.model.get('student', cfg.model)
    drop_pretrained(student)
    if cfg.get('data_preprocessor') is not None:
        student.setdefault('data_preprocessor', cfg.data_preprocessor)  # as the Runner does
    if cfg.model.get('type') == 'mmkd.DistilledModel':
        cfg.model.teacher.allow_random_weights = True
        cfg.model.teacher.pop('runtime', None)  # 'auto' measures for seconds
        for distiller in cfg.model.distillers.values():
            if distiller.type == DISTPRO and distiller.get('mode', 'process') in ('process', 'final'):
                for name in DistProDistiller.Options.without_meaning(mode='equal'):
                    distiller.pop(name, None)
                distiller.mode = 'equal'
            if distiller.type == DFA and distiller.get('mode') != 'search':
                distiller.setdefault('aggregation', 'average')
                if distiller.aggregation.endswith('.json'):
                    distiller.aggregation = 'average'
    return cfg


def drop_pretrained(node):
    if isinstance(node, dict):
        if 'pretrained' in node:
            node['pretrained'] = None
        if isinstance(node.get('init_cfg'), dict) and node['init_cfg'].get('type') == 'Pretrained':
            node['init_cfg'] = None
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        drop_pretrained(value)


def segmentation_batch(model, size):
    from mmseg.structures import SegDataSample
    samples = [SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size)) for _ in range(2)]
    for sample in samples:
        if type(model).__name__ == 'DepthEstimator':
            sample.gt_depth_map = PixelData(data=torch.rand(1, *size) * 9 + .5)
        else:
            sample.gt_sem_seg = PixelData(data=torch.randint(0, model.decode_head.num_classes, (1, *size)))
    return samples


def classification_batch(model, size):
    from mmpretrain.structures import DataSample
    return [DataSample(metainfo=dict(img_shape=size)).set_gt_label(number) for number in range(2)]


def detection_batch(model, size):
    """Each image has a small, a middling and a large object, so that every level of every head has something to learn."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    samples = []
    for number in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
                                             scale_factor=(1., 1.), img_id=number))
        boxes = torch.tensor([[4, 4, 20, 24], [10, 8, 58, 50], [2, 3, size[1] - 4, size[0] - 2]])
        masks = np.zeros((len(boxes), *size), dtype=np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.tolist()):
            mask[top:bottom, left:right] = 1
        sample.gt_instances = InstanceData(bboxes=boxes.float(), labels=torch.arange(len(boxes)),
                                           masks=BitmapMasks(masks, *size))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return samples


SAMPLES = dict(mmseg=segmentation_batch, mmpretrain=classification_batch, mmdet=detection_batch)


def training_batch(cfg, model, size=(64, 128)):
    return dict(inputs=torch.randn(2, 3, *size), data_samples=SAMPLES[cfg.default_scope](model, size))


def match(model):
    for distiller in model.distillation.distillers.values():
        for stage in getattr(distiller, 'stages', ()):
            channels = torch.randperm(len(stage.margins))[:stage.assignment.numel()]
            stage.assignment.copy_(channels.view_as(stage.assignment))
            stage.matched = True


def search_in_the_run(model):
    """What the hook does that a distiller brings along, which weighs others in the run itself."""
    for distiller in model.distillation.distillers.values():
        if isinstance(distiller, DistProDistiller) and distiller.options.mode == 'search':
            distiller.search = ProcessSearch(model, distiller, .05, (.5, .999))


def training_step(model, batch):
    """Forward and backward, the same random numbers each time; the log of the losses."""
    torch.manual_seed(0)
    loss, log = model.parse_losses(model(**deepcopy(batch), mode='loss'))
    loss.backward()
    return log


def trainable(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def with_gradient(model):
    return {name for name, parameter in trainable(model).items() if parameter.grad is not None and parameter.grad.any()}


def test_there_are_configs_of_every_task():
    assert {name.split('/')[0] for name in CONFIGS} >= {
        'classification', 'demo', 'depth', 'detection', 'instance_segmentation', 'segmentation'}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_shipped_config_builds_and_does_a_training_step(name):
    cfg = without_downloads(shipped(name))
    init_default_scope(cfg.default_scope)
    model = build(cfg.model).train()
    batch = training_batch(cfg, model)
    distilled = getattr(model, 'distillation', None) is not None
    if distilled:
        match(model)
        search_in_the_run(model)
        plain = build(cfg.model.student).train()
        plain.load_state_dict(model.state_dict())
    log = training_step(model, batch)
    assert all(torch.isfinite(value).all() for value in log.values())
    # Not one is left out, so DDP has nothing to search for.
    assert [name for name, parameter in trainable(model).items() if parameter.grad is None] == []
    assert 'find_unused_parameters' not in str(cfg._cfg_dict)
    if distilled:
        plain_log = training_step(plain, batch)
        assert {name for name in trainable(model) if not name.startswith('distillation.')} == set(trainable(plain))
        assert with_gradient(plain) <= with_gradient(model)
        assert {f'distillation.{name}' for name in trainable(model.distillation)} <= with_gradient(model)
        for key in set(plain_log) - {'loss'}:
            assert torch.equal(torch.as_tensor(plain_log[key]), torch.as_tensor(log[key])), key
    for hook in cfg.get('custom_hooks', ()):
        if isinstance(HOOKS.build(hook), MatchingUpdateHook):
            evaluation_view_of_training_data(cfg)


@pytest.mark.parametrize('name', [name for name in SEARCHED if '/dfa' in name])
def test_the_search_of_an_aggregation_reaches_every_weight(name):
    cfg = without_downloads(derived(name))
    init_default_scope(cfg.default_scope)
    model = build(cfg.model).train()
    hook = HOOKS.build(cfg.custom_hooks[0])
    search = start_search(model.distillation.dfa, hook.options.optimizer, hook.options.regularisation)
    batch = training_batch(cfg, model, tuple(cfg.model.get('image_shape', (3, 64, 128)))[1:])
    for index, group in enumerate(search.groups):
        assert group.searched
        search.enter(index)
        model.zero_grad()
        log = training_step(model, batch)
        assert all(torch.isfinite(value).all() for value in log.values())
        used = [f'distillation.dfa.groups.{index}.to_{side}.' for side in ('student', 'teacher')]
        without = {key for key, parameter in trainable(model).items() if parameter.grad is None}
        assert not [key for key in without if not key.startswith('distillation') or key.startswith(tuple(used))]


@pytest.mark.parametrize('name', [name for name in SEARCHED if '/distpro' in name])
def test_the_search_of_a_process_does_a_step(name):
    cfg = without_downloads(derived(name))
    init_default_scope(cfg.default_scope)
    model = build(cfg.model).train()
    batch = training_batch(cfg, model)
    distiller, optimiser = model.distillation.distpro, torch.optim.SGD(model.parameters(), .01)
    hook = HOOKS.build(cfg.custom_hooks[0])
    lr = .05 if hook.options.lr == 'auto' else hook.options.lr  # which follows from the length of a run
    search = distiller.search = ProcessSearch(model, distiller, lr, hook.options.betas)
    distiller.keeps_gradients = distiller.keeps_step = True
    before = search.snapshot(optimiser)
    training_step(model, batch)
    optimiser.step()
    assert search.step(before, distiller.take_step(), batch)
    importance = distiller.importance.value
    assert torch.isfinite(importance).all()
    assert len(importance) > 5
    assert (importance != 1).any()


@pytest.mark.parametrize('name', SEARCHED)
def test_a_search_has_validation_images_of_its_own_and_checkpoints_to_go_on_from(name):
    cfg = derived(name)
    options = HOOKS.build(cfg.custom_hooks[0]).options
    validation = validation_loader(options.dataloader, cfg, 'test')['dataset']
    assert without_scope(validation) != without_scope(cfg.train_dataloader.dataset.to_dict())
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert 0 < cfg.default_hooks.checkpoint.interval <= length / 2
    assert cfg.default_hooks.checkpoint.get('by_epoch', True) == ('max_epochs' in cfg.train_cfg)


@pytest.mark.parametrize('name', SEARCHED)
def test_the_config_of_a_search_can_be_written_to_a_file(name, tmp_path):
    cfg = derived(name)
    cfg.dump(tmp_path / 'search.py')
    assert Config.fromfile(tmp_path / 'search.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('name', DISTILLED)
def test_the_checkpoint_of_a_shipped_teacher_follows_from_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = shipped(name).model.teacher
    assert 'checkpoint' not in teacher
    cfg = deepcopy(load(teacher.config, 'test'))
    if not teacher.config.startswith('mmkd_plugin::'):
        assert default_checkpoint(teacher.config, cfg).startswith('https://download.openmmlab.com/')
        return
    path = (ROOT / teacher.config.partition('::')[2]).resolve()
    if path.with_suffix('.pth').is_file():  # weights that are shipped
        assert Path(default_checkpoint(teacher.config, cfg)).resolve() == path.with_suffix('.pth')
        return
    with pytest.raises(DistillationError) as found:
        default_checkpoint(teacher.config, cfg)
    command = re.search(r'mmkd train (\S+\.py)', str(found.value))
    assert Path(command[1]).resolve() == path


@lru_cache(None)
def measured_configs():
    # What waits for a GPU has not been run.
    tables = [Table.from_file(path) for path in sorted((REPOSITORY / 'benchmarks/tables').glob('*.py'))
              if path.stem != 'gpu_cifar100']
    return {row.config.removeprefix('configs/') for table in tables for row in table.rows} | set(MEASURED)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_config_that_nobody_has_run_says_so_in_its_first_line(name):
    measured = measured_configs()
    first = (ROOT / name).read_text().splitlines()[0]
    assert first.startswith('# ')
    kind = 'builds, trains and searches' if name in SEARCHED else 'builds and trains'
    assert f'{kind} a step in the tests)' in first or name in measured
    assert '(not run; ' not in first or name not in measured


@pytest.mark.parametrize('name', DISTILLED)
def test_a_distilled_config_fits_on_a_screen_and_changes_nothing_of_its_student(name):
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= 40
    cfg = shipped(name)
    base = re.search(r"_base_ = '(.+)'", text)[1]
    student = load(base if '::' in base else str((ROOT / name).parent / base), 'test')
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


def test_retinanets_loss_constants_are_the_authors():
    cfg = Config.fromfile(ROOT / 'detection/coco/mgd-amp_retinanet_r50-r18-freeze0_fpn_1x_coco.py')
    taps = cfg.model.distillers.mgd.pairs
    distiller = MODELS.build(dict(cfg.model.distillers.mgd, norm=None, margin='none'))
    info = {tap: TapInfo(tap, 1, (4, 4), None, number) for number, tap in enumerate(taps)}
    distiller.prepare(info, info)
    for stage in distiller.stages:
        stage.matched = True
    ones, zeros = {tap: torch.ones(2, 1, 4, 4) for tap in taps}, {tap: torch.zeros(2, 1, 4, 4) for tap in taps}
    losses = distiller(ones, zeros, Batch(torch.empty(2, 3, 800, 1344, device='meta'), None, 0))
    # A GPU's share: the sum over its 2 images, here 2 * 4 * 4, by the divisor of the stage and the 16 images of all GPUs.
    expected = [32 / divisor / 16 for divisor in (5e7, 5e7, 5e6, 5e6)]
    assert [float(loss) for loss in losses.values()] == pytest.approx(expected, rel=1e-4)
