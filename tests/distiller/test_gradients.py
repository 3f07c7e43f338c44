"""``loss_scale='auto'`` and ``log_gradients``: gradients at the taps, against autograd by hand and in real runs."""
import logging
import math

import pytest
import torch
from mmengine.logging import MessageHub
from zoo import STUDENTS, batch, build, distilled, mgd, run, run_cfg, update_hook

from mmkd_plugin.distiller.gradients import GradientComparison, compare_gradients, feature_gradients
from mmkd_plugin.distiller.strength import ScaleCalibration
from mmkd_plugin.model.step import uses_float16
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.torch_versions import OlderEdge, gradient_edge, gradients_at

SCOPES = sorted(STUDENTS)


def test_comparison_of_two_known_gradients():
    feature = torch.tensor([1.0, 2.0], requires_grad=True) * 1
    edges = dict(tap=gradient_edge(feature))
    task = feature_gradients((feature * torch.tensor([3.0, 4.0])).sum(), edges)
    ours = feature_gradients((feature * torch.tensor([1.0, 0.0])).sum(), edges)
    comparison = compare_gradients(task, ours)['tap']
    assert comparison.ratio == pytest.approx(1 / 5)
    assert comparison.cosine == pytest.approx(3 / 5)


def test_the_gradient_is_that_before_an_in_place_activation():
    feature = torch.tensor([-1.0, 2.0], requires_grad=True) * 1
    edges = dict(tap=gradient_edge(feature))
    feature.relu_()
    assert feature_gradients(feature.sum(), edges)['tap'].tolist() == [0, 1]


def test_gradients_at_edges_are_the_same_with_torch_2_1():
    """There they are taken by hooks: at a leaf, at one of several outputs, at a feature that later is changed in place."""
    leaf = torch.tensor([0.3, -1.0, 2.0], requires_grad=True)
    unused = leaf.sin()
    feature = leaf.exp() - 1
    first, second = (feature * 2).split([1, 2])
    tensors = [leaf, unused, feature, second]
    edges = [gradient_edge(tensor) for tensor in tensors]
    nodes = [tensor.grad_fn or tensor.view_as(tensor).grad_fn.next_functions[0][0] for tensor in tensors]
    older = [OlderEdge(node, tensor.output_nr) for node, tensor in zip(nodes, tensors)]
    loss = (feature.relu_() ** 2).sum() + (first * second).sum()
    found, expected = gradients_at(loss, older), gradients_at(loss, edges)
    assert found[1] is expected[1] is None
    for one, other in zip(found, expected):
        if one is not None:
            assert torch.equal(one, other)


@pytest.mark.parametrize('size', [1e-8, 1.0, 1e3])
def test_float16_gradients_neither_vanish_nor_overflow(size):
    feature = torch.ones(4, requires_grad=True) * 1
    edges = dict(tap=gradient_edge(feature))
    loss = feature.half().float().sum() * size  # float16 lies between, not at the tap
    assert feature_gradients(loss, edges, half=True)['tap'].tolist() == pytest.approx([size] * 4, rel=0.01)
    if size == 1e-8:
        assert feature_gradients(loss, edges)['tap'].tolist() == [0] * 4


def test_float16_is_known_by_autocast_whatever_the_features_are():
    with torch.autocast('cpu', torch.float16):
        assert uses_float16('cpu')
    with torch.autocast('cpu', torch.bfloat16):
        assert not uses_float16('cpu')
    assert not uses_float16('cpu')


def test_a_calibration_that_finds_nothing_says_so():
    calibration = ScaleCalibration(3)
    calibration.observe(GradientComparison(task=4, distillation=1, inner=0), 'mgd')
    for _ in range(2):
        calibration.observe(GradientComparison(task=math.inf, distillation=1, inner=0), 'mgd')
    with pytest.raises(DistillationError, match=r"loss_scale: 'auto' found no scale.*task loss 0, distiller 1"):
        calibration.observe(GradientComparison(task=0, distillation=1, inner=0), 'mgd')


def test_calibration_is_the_geometric_mean_of_the_later_half_and_then_frozen():
    calibration = ScaleCalibration(4)
    assert calibration.scale == 1
    for task, scale in ((1e6, 1e3), (4, 2), (4, 2), (0, 2), (64, 4)):
        calibration.observe(GradientComparison(task=task, distillation=1, inner=0), 'mgd')
        assert calibration.scale == pytest.approx(scale)
    assert calibration.finished, 'an iteration without a gradient does not count'
    copy = ScaleCalibration(4)
    copy.load_state_dict(calibration.state_dict())
    assert (copy.scale, copy.finished) == (calibration.scale, True)


@pytest.mark.parametrize('scope', SCOPES)
def test_measured_ratio_and_cosine_are_autograds(scope):
    model = build(distilled(STUDENTS[scope](), mgd=mgd(log_gradients=1, loss_weight=0.5, margin='none'))).train()
    for stage in model.distillation.mgd.stages:
        stage.assignment.copy_(torch.arange(stage.assignment.numel()).view_as(stage.assignment))
        stage.matched = True
    data = model.data_preprocessor(batch(scope), True)
    # The reference: the activations' inputs, out of place, held by hooks of the test's own.
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    calls = {name: [] for name in ('layer3', 'layer4')}
    for name in calls:
        getattr(model.backbone, name)[-1].relu.register_forward_pre_hook(
            lambda module, args, name=name: calls[name].append(args[0]))
    losses = model(**data, mode='loss')
    task = sum(value.mean() if isinstance(value, torch.Tensor) else sum(item.mean() for item in value)
               for key, value in losses.items() if 'loss' in key and not key.startswith('mgd'))
    ours = sum(value for key, value in losses.items() if key.startswith('mgd.loss'))
    taps = [calls['layer3'][-1], calls['layer4'][-1]]
    theirs = torch.cat([grad.flatten() for grad in torch.autograd.grad(task, taps, retain_graph=True)])
    mine = torch.cat([grad.flatten() for grad in torch.autograd.grad(ours, taps)])
    assert float(losses['mgd.gradient_ratio']) == pytest.approx(float(mine.norm() / theirs.norm()), rel=1e-4)
    assert float(losses['mgd.gradient_cosine']) == pytest.approx(
        float(torch.dot(mine, theirs) / mine.norm() / theirs.norm()), abs=1e-5)
    assert {'mgd.gradient_ratio_layer3', 'mgd.gradient_cosine_layer4'} <= set(losses)


@pytest.mark.slow
@pytest.mark.parametrize('scope', SCOPES)
@pytest.mark.parametrize('weight', [1.0, 0.25])
def test_auto_scale_gives_the_ratio_that_is_asked_for(scope, weight, tmp_path):
    distiller = mgd(loss_scale='auto', calibration_iters=4, log_gradients=1, loss_weight=weight)
    cfg = run_cfg(distilled(STUDENTS[scope](), mgd=distiller), tmp_path, epochs=8,
                  hooks=[update_hook(scope, interval=20)])
    # All images in every batch and hardly any learning: else the ratio of these toy runs varies by a factor of 2.
    cfg.train_dataloader.batch_size = 8
    cfg.optim_wrapper.optimizer.lr = 1e-6
    _, losses = run(cfg)
    ratios = [entry['mgd.gradient_ratio'] for entry in losses[4:]]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    assert mean == pytest.approx(weight, rel=0.2)


def test_a_resumed_calibration_goes_on_as_if_nothing_had_happened(tmp_path):
    def cfg(**options):
        model = distilled(STUDENTS['mmpretrain'](), mgd=mgd(loss_scale='auto', calibration_iters=6))
        return run_cfg(model, tmp_path, epochs=2, hooks=[update_hook('mmpretrain', interval=10)], **options)

    runner, whole = run(cfg())
    scale = runner.model.distillation.mgd.strength.scale
    MessageHub._instance_dict.clear()
    resumed, rest = run(cfg(load_from=f'{tmp_path}/epoch_1.pth', resume=True))
    assert rest == whole[4:]
    assert resumed.model.distillation.mgd.strength.scale == scale


@pytest.mark.parametrize(('options', 'message'), [
    (dict(loss_scale='Auto'), "loss_scale: 'Auto'.*'auto'"), (dict(loss_scale=0), "loss_scale: 0.*or 'auto'"),
    (dict(loss_scale='auto', end=3, calibration_iters=6),
     "calibration_iters: 'auto' takes 6 iterations at least, but the distiller acts in 3"),
    (dict(log_gradients=-1), 'log_gradients: -1'), (dict(calibration_iters=0), 'calibration_iters: 0')])
def test_wrong_options_are_named(options, message):
    with pytest.raises(DistillationError, match=message):
        build(distilled(STUDENTS['mmseg'](), mgd=mgd(**options)))


def test_a_scale_pinned_in_the_middle_of_a_run_is_named(tmp_path):
    def cfg(**options):
        model = distilled(STUDENTS['mmpretrain'](), mgd=mgd(**options))
        return run_cfg(model, tmp_path, hooks=[update_hook('mmpretrain', interval=10)])

    run(cfg(loss_scale='auto', calibration_iters=2))
    pinned = cfg(loss_scale=0.5)
    pinned.merge_from_dict(dict(load_from=f'{tmp_path}/epoch_1.pth', resume=True))
    with pytest.raises(DistillationError, match="Checkpoint: .*loss_scale 'auto' over 2 iterations. Config: "):
        run(pinned)


def test_a_name_that_would_add_its_log_to_the_total_is_refused():
    with pytest.raises(DistillationError, match="model.distillers.feature_loss: .*without 'loss'"):
        build(distilled(STUDENTS['mmseg'](), feature_loss=mgd()))


def told(monkeypatch, module):
    messages = []
    monkeypatch.setattr(f'mmkd_plugin.{module}.print_log',
                        lambda message, *args, level=logging.INFO, **kwargs: messages.append((level, message)))
    return messages


def test_without_a_length_it_goes_on_until_the_ratio_has_settled():
    """As in a training from scratch: the ratio falls by 50 within 150 iterations and then stays, but for the batches."""
    generator = torch.Generator().manual_seed(0)
    calibration, iteration = ScaleCalibration(), 0
    while not calibration.finished:
        ratio = 0.1 + 5 * math.exp(-iteration / 25)
        noise = math.exp(0.3 * torch.randn((), generator=generator).item())
        calibration.observe(GradientComparison(task=1, distillation=(ratio * noise) ** 2, inner=0), 'mgd')
        iteration += 1
    assert 200 < iteration < 500
    assert calibration.scale == pytest.approx(10, rel=0.15)
    copy = ScaleCalibration()
    copy.load_state_dict(calibration.state_dict())
    assert (copy.scale, copy.finished) == (calibration.scale, True)


def test_what_never_settles_ends_with_a_warning(monkeypatch):
    messages = told(monkeypatch, 'distiller.strength')
    calibration = ScaleCalibration()
    for iteration in range(2000):
        assert not calibration.finished
        calibration.observe(GradientComparison(task=math.exp(iteration / 200), distillation=1, inner=0), 'mgd')
    assert calibration.finished
    assert messages[-1][0] == logging.WARNING


def test_a_scale_that_jumps_within_its_calibration_is_warned_of(monkeypatch):
    for tasks, warnings in (((1, 1, 1, 1), 0), ((1, 1, 1e-20, 1e-20), 1)):
        messages = told(monkeypatch, 'distiller.strength')
        calibration = ScaleCalibration(4)
        for task in tasks:
            calibration.observe(GradientComparison(task=task, distillation=1, inner=0), 'mgd')
        assert [level for level, _ in messages].count(logging.WARNING) == warnings
        assert 'loss_scale frozen at' in messages[0][1]


def test_a_calibration_that_the_run_did_not_finish_is_warned_of(monkeypatch, tmp_path):
    messages = told(monkeypatch, 'model.checkpoint')
    model = distilled(STUDENTS['mmpretrain'](), mgd=mgd(loss_scale='auto', calibration_iters=6))
    run(run_cfg(model, tmp_path, hooks=[update_hook('mmpretrain', interval=10)]))
    assert any(level == logging.WARNING and 'was not finished' in message for level, message in messages)


def test_a_reentrant_checkpoint_is_named():
    student = STUDENTS['mmseg']()
    student['backbone']['with_cp'] = True
    model = build(distilled(student, mgd=mgd('backbone.layer3', loss_scale='auto', margin='none'))).train()
    model.distillation.mgd.stages[0].matched = True
    with pytest.raises(DistillationError, match='with_cp'):
        model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')
