"""When and how the matching is updated; numbers T18 and T19 of the specification."""
import gc
import json
import math
import weakref

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import LinearLR, MultiStepLR
from mmengine.registry import DATA_SAMPLERS, DATASETS, init_default_scope
from PIL import Image
from torch.utils.data import BatchSampler
from zoo import build, classifier, distilled, loader, mgd, pspnet, retinanet, run, run_cfg, update_hook

from mmkd_plugin.losses.margins import partial_l2
from mmkd_plugin.mgd import MatchingGuidedDistiller, MatchingUpdateHook
from mmkd_plugin.mgd.matching import assign, assign_groups, cost_matrix, similarity_sum
from mmkd_plugin.mgd.reduction import absolute_max, gather_groups
from mmkd_plugin.mgd.update_data import evaluation_view_of_training_data
from mmkd_plugin.utils.errors import DistillationError


def recorded_updates(monkeypatch, cfg):
    """Runs ``cfg``; returns the (epoch, iteration) at which the matching was updated."""
    updates = []
    original = MatchingUpdateHook.update

    def update(hook, runner, done=None):
        updates.append((runner.epoch, runner.iter))
        return original(hook, runner)

    monkeypatch.setattr(MatchingUpdateHook, 'update', update)
    runner, _ = run(cfg)
    return runner, updates


def test_T19_every_second_epoch(monkeypatch, tmp_path):
    cfg = run_cfg(distilled(classifier()), tmp_path, epochs=6, length=2, hooks=[update_hook('mmpretrain', interval=2)])
    _, updates = recorded_updates(monkeypatch, cfg)
    # Before training and after the epochs of index 1 and 3; after the last (5) it would serve nobody.
    assert [epoch for epoch, _ in updates] == [0, 1, 3]


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'expected'), [
    (dict(interval=2, by_epoch=False), [0, 2, 4]), (dict(interval=[1, 4], by_epoch=False), [0, 1, 4]),
    (dict(interval=1), [0, 2, 4]), (dict(interval=2), [0, 4])])
def test_iteration_based_runs(monkeypatch, tmp_path, options, expected):
    cfg = run_cfg(distilled(classifier()), tmp_path, length=4, hooks=[update_hook('mmpretrain', **options)])
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    _, updates = recorded_updates(monkeypatch, cfg)
    assert [0, *(iteration + 1 for _, iteration in updates[1:])] == expected


@pytest.mark.slow
def test_a_batch_sampler_in_an_iteration_based_run(monkeypatch, tmp_path):
    # Every stock mmdet config has one; the loader's own batch size is None then.
    cfg = run_cfg(distilled(retinanet()), tmp_path, length=4, hooks=[update_hook('mmdet')])
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
    DATA_SAMPLERS.register_module(name='ToyBatchSampler', module=BatchSampler, force=True)
    cfg.train_dataloader.batch_sampler = dict(type='ToyBatchSampler', _scope_='mmengine', drop_last=False)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
    _, updates = recorded_updates(monkeypatch, cfg)
    assert [iteration for _, iteration in updates] == [0, 1]


def test_T19_detection_and_logarithmic_schedules():
    paper = MatchingUpdateHook(interval=[5000, 10000, 15000, 31000, 62000], by_epoch=False)
    assert [done for done in range(1, 90000) if paper.due(done)] == [5000, 10000, 15000, 31000, 62000]
    logarithmic = [math.ceil(10 ** (2.1 * step / 9)) for step in range(10)]
    assert logarithmic == [1, 2, 3, 6, 9, 15, 26, 43, 74, 126]
    hook = MatchingUpdateHook(interval=logarithmic)
    assert [done for done in range(1, 200) if hook.due(done)] == logarithmic


def test_T18_warm_up_of_the_imagenet_recipe():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1)
    schedulers = [LinearLR(optimiser, start_factor=.1, begin=0, end=11, by_epoch=True),
                  MultiStepLR(optimiser, milestones=[41, 71, 91], gamma=.1, by_epoch=True)]
    rates = []
    for _ in range(130):
        rates.append(optimiser.param_groups[0]['lr'])
        optimiser.step()
        for scheduler in schedulers:
            scheduler.step()
    expected = {0: .010, 5: .055, 9: .091, 10: .1, 41: .01, 71: .001, 91: 1e-4}
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)


@pytest.mark.slow
def test_the_matching_is_that_of_the_students_and_teachers_evaluation_features(tmp_path):
    model_cfg = distilled(classifier(), mgd=mgd('backbone.layer4@preact'))
    kept = {}

    class KeepWeights(Hook):
        def before_train(self, runner):
            kept.update({name: value.clone() for name, value in runner.model.state_dict().items()})

    runner, _ = run(run_cfg(model_cfg, tmp_path, length=2, hooks=[update_hook('mmpretrain', interval=5)]),
                    before=lambda runner: runner.register_hook(KeepWeights()))
    distillation = runner.model.distillation
    student = build(classifier())
    student.load_state_dict(kept)
    student.eval()
    similarity = 0
    for data in runner.build_dataloader(loader('mmpretrain', 4, shuffle=False)):
        data = student.data_preprocessor(data, False)
        features = []
        handle = student.backbone.layer4[-1].relu.register_forward_pre_hook(
            lambda module, args, features=features: features.append(args[0].clone()))
        student.backbone(data['inputs'])
        handle.remove()
        teacher = distillation.teacher.features(data['inputs'])['backbone.layer4@preact']
        similarity = similarity + similarity_sum(features[-1], teacher)
    expected = assign_groups(cost_matrix(similarity, 4))
    found = distillation.mgd.stages[0].assignment
    assert [set(row) for row in found.tolist()] == [set(row) for row in expected.tolist()]


@pytest.mark.slow
def test_every_module_gets_its_own_mode_back(tmp_path):
    cfg = distilled(pspnet(norm_eval=True), mgd=mgd())
    modes = {}

    def note(runner):
        runner.model.train()
        modes.update({name: module.training for name, module in runner.model.named_modules()})

    runner, _ = run(run_cfg(cfg, tmp_path, length=2, hooks=[update_hook('mmseg')]), before=note)
    runner.model.train()
    hook = next(hook for hook in runner.hooks if isinstance(hook, MatchingUpdateHook))
    buffers = {name: value.clone() for name, value in runner.model.state_dict().items()}
    hook.update(runner)
    after = {name: module.training for name, module in runner.model.named_modules() if not name.startswith('distillation')}
    assert not all(modes.values())
    assert after == modes
    assert all(torch.equal(value, buffers[name]) for name, value in runner.model.state_dict().items())


def test_an_update_draws_no_random_number_of_the_run(tmp_path):
    runner, _ = run(run_cfg(distilled(classifier()), tmp_path, length=2, hooks=[update_hook('mmpretrain')]))
    hook = next(hook for hook in runner.hooks if isinstance(hook, MatchingUpdateHook))
    before = torch.get_rng_state()
    hook.update(runner)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_images_ends_the_update(tmp_path, monkeypatch):
    seen = []
    original = MatchingUpdateHook._accumulate
    monkeypatch.setattr(MatchingUpdateHook, '_accumulate',
                        lambda *args: seen.append(original(*args)) or seen[-1])
    run(run_cfg(distilled(classifier()), tmp_path, length=2, hooks=[
        update_hook('mmpretrain', num_images=3, dataloader=loader('mmpretrain', 8))]))
    assert seen == [4]  # whole batches of 2


@pytest.mark.slow
def test_margins_are_measured_where_there_is_no_batch_norm(tmp_path):
    teacher = classifier(16)
    teacher['backbone']['norm_cfg'] = dict(type='GN', num_groups=4)
    cfg = distilled(classifier(), teacher, mgd=mgd('backbone.layer4@preact'))
    runner, _ = run(run_cfg(cfg, tmp_path, length=2, hooks=[update_hook('mmpretrain')]))
    distillation = runner.model.distillation
    stage = distillation.mgd.stages[0]
    assert stage.margin_source == 'data'
    data = [runner.model.data_preprocessor(data, False) for data in runner.build_dataloader(loader('mmpretrain', 4))]
    feature = torch.cat([distillation.teacher.features(item['inputs'])['backbone.layer4@preact'] for item in data])
    expected = [values[values < 0].mean() for values in feature.transpose(0, 1).flatten(1)]
    assert (stage.margins < 0).sum() > 100
    torch.testing.assert_close(stage.margins, torch.stack(expected).nan_to_num())  # 0 where nothing is negative


@pytest.mark.slow
def test_no_update_once_the_distiller_has_ended(monkeypatch, tmp_path):
    cfg = run_cfg(distilled(classifier(), mgd=mgd(end=2)), tmp_path, epochs=4, length=2, hooks=[update_hook('mmpretrain')])
    seen = []
    original = MatchingUpdateHook._accumulate
    monkeypatch.setattr(MatchingUpdateHook, '_accumulate',
                        lambda hook, runner, *args: seen.append(runner.iter) or original(hook, runner, *args))
    run(cfg)
    assert seen == [0, 1]


def test_the_papers_loss_is_zero_for_a_permuted_copy():
    # T14: the teacher is the student with its channels in another order.
    student = torch.randn(2, 6, 4, 4)
    order = torch.randperm(6)
    teacher = student[:, order]
    assignment = assign_groups(cost_matrix(similarity_sum(student, teacher), 2))
    target, margin = absolute_max(gather_groups(teacher, assignment), torch.full((6, 1), -torch.inf))
    assert partial_l2(student, target, margin).sum() == 0


def test_the_default_loader_is_the_training_set_with_evaluation_transforms():
    train, val = [dict(type='RandomFlip')], [dict(type='Resize')]
    inner = dict(type='CocoDataset', data_root='train', pipeline=train)
    cfg = Config(dict(
        train_dataloader=dict(batch_size=8, sampler=dict(type='InfiniteSampler'), batch_sampler=dict(type='AspectRatio'),
                              dataset=dict(type='MultiImageMixDataset', pipeline=[dict(type='Mosaic')], dataset=inner)),
        val_dataloader=dict(batch_size=3, num_workers=2, persistent_workers=True, drop_last=False,
                            sampler=dict(type='DefaultSampler', shuffle=False),
                            dataset=dict(type='ConcatDataset', datasets=[dict(data_root='val', pipeline=val)]))))
    assert evaluation_view_of_training_data(cfg) == dict(
        batch_size=3, num_workers=2, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='CocoDataset', data_root='train', pipeline=val))
    assert inner['pipeline'] == train
    # Neither do images on the device crop and flip what an update looks at, nor keep its workers from it.
    cfg.train_dataloader.dataset.update(type='mmkd.ImagesOnDevice', padding=4, flip=0.5)
    assert evaluation_view_of_training_data(cfg)['dataset'] == dict(type='CocoDataset', data_root='train', pipeline=val)


def test_a_config_without_loaders_needs_one_of_its_own():
    with pytest.raises(DistillationError, match='no train_dataloader and val_dataloader'):
        evaluation_view_of_training_data(Config(dict(train_dataloader=dict(dataset=dict()))))


@pytest.mark.slow
@pytest.mark.parametrize(('student', 'teacher', 'shape'), [(8, 16, (64, 2)), (8, 20, (64, 2)), (16, 8, (128, 1))])
def test_widths_that_do_not_fit(tmp_path, student, teacher, shape):
    cfg = distilled(classifier(student), classifier(teacher), mgd=mgd('backbone.layer4@preact'))
    runner, losses = run(run_cfg(cfg, tmp_path, length=2, hooks=[update_hook('mmpretrain')]))
    assert runner.model.distillation.mgd.stages[0].assignment.shape == shape
    assert losses[0]['mgd.loss_layer4'] > 0


@pytest.mark.slow
def test_resolutions_that_do_not_fit_are_resized_to_the_students(tmp_path):
    cfg = distilled(pspnet(), classifier(16), mgd=mgd(('backbone.layer1', 'backbone.layer2'),
                                                      ('backbone.layer4@preact', 'backbone.layer4@preact')))
    runner, losses = run(run_cfg(cfg, tmp_path, length=2, hooks=[update_hook('mmseg')]))
    info = runner.model.distillation
    assert info.student_taps.info['backbone.layer4@preact'].size == (8, 8)
    assert info.teacher.taps.info['backbone.layer2'].size == (32, 32)
    assert all(value == value for value in losses[0].values())


def test_the_papers_sum_does_not_depend_on_the_input_size():
    from mmkd_plugin.distiller import Batch
    from mmkd_plugin.mgd import MatchingGuidedDistiller
    distiller = MatchingGuidedDistiller(pairs=['a'], reduction='sum')
    for side in (224, 448):
        ones = torch.ones(2, 4, side // 32, side // 32)
        value = distiller._reduced(ones, torch.zeros_like(ones), None, Batch(torch.zeros(2, 3, side, side), None, 0))
        assert value.item() == pytest.approx(4 * 49 / 1e4)


@pytest.mark.slow
def test_nothing_of_an_update_stays_alive(tmp_path, monkeypatch):
    """Features, sums and costs are gone as soon as the update is over; nothing waits for the garbage collector."""
    held, alive = [], []
    update, accumulate = MatchingUpdateHook.update, MatchingGuidedDistiller.accumulate

    def watched_accumulate(distiller, statistics, student, teacher, batch):
        accumulate(distiller, statistics, student, teacher, batch)
        tensors = [*student.values(), *teacher.values(), *(one._similarity for one in statistics)]
        held.extend(weakref.ref(tensor) for tensor in tensors)

    def watched_cost(cost, **options):
        held.append(weakref.ref(cost))
        return assign(cost, **options)

    def watched_update(hook, runner):
        gc.disable()
        costs = update(hook, runner)
        alive.append(sum(reference() is not None for reference in held))
        gc.enable()
        return costs

    monkeypatch.setattr(MatchingGuidedDistiller, 'accumulate', watched_accumulate)
    monkeypatch.setattr(MatchingUpdateHook, 'update', watched_update)
    monkeypatch.setattr('mmkd_plugin.mgd.distiller.assign', watched_cost)
    run(run_cfg(distilled(pspnet()), tmp_path, epochs=2, hooks=[update_hook('mmseg')]))
    assert len(held) == 2 * (2 * (2 + 2 + 2) + 2), 'two updates of two batches, two pairs'
    assert alive == [0, 0]


def test_ignored_boxes_of_a_matching_update_are_in_the_coordinates_of_its_images(tmp_path):
    annotations = dict(images=[dict(id=0, file_name='0.png', width=64, height=64)],
                       categories=[dict(id=1, name='thing')],
                       annotations=[dict(id=number, image_id=0, category_id=1, bbox=box, area=64, iscrowd=number)
                                    for number, box in enumerate([[0, 0, 32, 32], [8, 8, 16, 24]])])
    (tmp_path / 'coco.json').write_text(json.dumps(annotations))
    Image.new('RGB', (64, 64)).save(tmp_path / '0.png')
    dataset = dict(type='CocoDataset', _scope_='mmdet', ann_file=str(tmp_path / 'coco.json'),
                   metainfo=dict(classes=('thing',)), data_prefix=dict(img=str(tmp_path)))
    test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(128, 128), keep_ratio=True),
                     dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]
    view = evaluation_view_of_training_data(dict(
        train_dataloader=dict(dataset=dict(dataset, pipeline=[])),
        val_dataloader=dict(batch_size=1, dataset=dict(dataset, test_mode=True, pipeline=test_pipeline))))
    init_default_scope('mmdet')
    item = DATASETS.build(view['dataset'])[0]
    assert item['inputs'].shape == (3, 128, 128)
    assert item['data_samples'].gt_instances.bboxes.tensor.tolist() == [[0, 0, 64, 64]]
    assert item['data_samples'].ignored_instances.bboxes.tensor.tolist() == [[16, 16, 48, 64]]
