"""The student's memory format: nothing but the order of maps in memory changes, in a run and in its checkpoints."""
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from resume_runs import epochs_cfg, interrupted
from torch import nn
from zoo import batch, build, classifier, distilled, pspnet, run, run_cfg

from mmkd_plugin import DistillationError
from mmkd_plugin.model.channels_last import CHOICE
from mmkd_plugin.runtime.memory_format import (
    GradientDifferences,
    follow_parameters,
    in_plain_format,
    set_format,
    unfit_for_channels_last,
)
from mmkd_plugin.taps.shapes import is_channels_last
from mmkd_plugin.utils.checkpoint_files import open_checkpoint


def small(**backbone):
    model = classifier()
    model['backbone'] = {'type': 'mmkd.CIFARResNet', 'depth': 8, **backbone}
    model['head']['in_channels'] = 64
    return model


def with_l2(student=None, **options):
    l2 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], **options)
    return distilled(student or small(), small(), l2=l2)


TAPS = ['backbone.layer1@preact', 'backbone.layer2@preact', 'backbone.layer3@preact']
DISTILLERS = dict(
    amp=dict(type='mmkd.MatchingGuidedDistiller', pairs=TAPS),
    mean=dict(type='mmkd.MatchingGuidedDistiller', pairs=TAPS, reduction='mean'),
    random_drop=dict(type='mmkd.MatchingGuidedDistiller', pairs=TAPS, reducer='random_drop'),
    sparse=dict(type='mmkd.MatchingGuidedDistiller', pairs=TAPS, reducer='sparse'),
    l2=dict(type='mmkd.FeatureDistiller', pairs=TAPS),
    distpro=dict(type='mmkd.DistProDistiller', levels=TAPS, mode='equal', transforms='conv1'),
    dfa=dict(type='mmkd.FeatureAggregationDistiller', pairs=[f'backbone.layer{stage}' for stage in (1, 2, 3)],
             aggregation='average'))


def hook(mode='auto'):
    return dict(type='mmkd.ChannelsLastHook', mode=mode)


def weight_of(runner):
    return runner.model.backbone.layer3[0].conv1.weight


class Watch(Hook):
    """Notes after each iteration whether a weight lies in the plain format."""

    def __init__(self):
        self.formats = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.formats.append(weight_of(runner).is_contiguous())


class Convert(Hook):
    """What the hook does, by hand; not earlier: how weights lie in memory decides how they are drawn."""

    def before_train(self, runner):
        set_format(runner.model, True)


def trained(model, folder, mode=None, before=None, **options):
    """The losses of a run, its final weights, and the message hub's word on the format."""
    runner, losses = run(run_cfg(model, folder, 2, [hook(mode)] if mode else [], **options), before)
    return losses, runner.model.state_dict(), runner.message_hub.get_info(CHOICE)


def assert_equal(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


def with_crd():
    crd = dict(type='mmkd.CRDLoss', images=8, negatives=4, width=8)
    return distilled(small(), small(), crd=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'], loss=crd))


def test_a_loss_that_remembers_images_remembers_none_between_the_steps_that_are_compared(tmp_path):
    on = trained(with_crd(), tmp_path / 'on', 'on')
    assert on[2] is True
    assert_equal(on, trained(with_crd(), tmp_path / 'by hand', before=lambda runner: runner.register_hook(Convert())))


def test_an_error_of_the_run_itself_is_not_told_as_one_of_the_hook(tmp_path):
    search = distilled(small(), small(), distpro=dict(DISTILLERS['distpro'], mode='search'))
    with pytest.raises(DistillationError, match="^model.distillers.distpro: needs a hook with mode='search'"):
        trained(search, tmp_path, 'on')


MODELS_OF_RUNS = dict(distilled=with_l2, dropout=lambda: pspnet(16))


def test_what_the_copy_does_is_not_logged_as_the_runs_own(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmkd_plugin.distiller.strength.print_log', lambda text, *args, **kwargs: said.append(text))
    trained(with_l2(loss_scale='auto', calibration_iters=2), tmp_path, 'auto')
    assert ['loss_scale frozen' in text for text in said].count(True) == 1


@pytest.mark.slow
@pytest.mark.parametrize('name', MODELS_OF_RUNS)
def test_whatever_auto_chooses_the_run_is_the_one_in_that_format_and_off_is_the_one_without_the_hook(name, tmp_path):
    model = MODELS_OF_RUNS[name]()
    runs = {None: trained(model, tmp_path / 'none'), False: trained(model, tmp_path / 'off', 'off'),
            True: trained(model, tmp_path / 'by hand', before=lambda runner: runner.register_hook(Convert()))}
    auto, on = trained(model, tmp_path / 'auto', 'auto'), trained(model, tmp_path / 'on', 'on')
    assert_equal(runs[None], runs[False])
    assert_equal(on, runs[True])
    assert on[2] is True
    assert isinstance(auto[2], bool)
    assert_equal(auto, runs[auto[2]])


def test_a_run_with_weight_0_is_that_of_the_student_alone_in_the_same_format(tmp_path):
    alone = trained(small(), tmp_path / 'alone', 'on')
    beside = trained(with_l2(loss_weight=0.0), tmp_path / 'beside', 'on')
    assert [losses['loss'] for losses in alone[0]] == [losses['loss'] for losses in beside[0]]
    assert all(torch.equal(alone[1][name], beside[1][name]) for name in alone[1])


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def test_checkpoints_are_those_of_any_run_and_the_model_is_handed_back_in_the_plain_format(tmp_path):
    watch = Watch()
    runner, _ = run(run_cfg(with_l2(), tmp_path / 'on', 2, [hook('on'), dict(type='EMAHook')]),
                    lambda runner: runner.register_hook(watch))
    assert watch.formats == [False] * 8
    assert weight_of(runner).is_contiguous()
    saved = open_checkpoint(tmp_path / 'on' / 'epoch_2.pth')
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'mmkd'} <= set(saved)
    found = list(tensors(saved))
    assert sum(value.dim() == 4 for value in found) > 20
    assert all(value.is_contiguous() for value in found)
    plain, _ = run(run_cfg(with_l2(), tmp_path / 'none', 1))
    assert list(saved['state_dict']) == list(open_checkpoint(tmp_path / 'none' / 'epoch_1.pth')['state_dict'])
    run(run_cfg(with_l2(), tmp_path / 'none', 2, [hook('on')], resume=True))  # from a checkpoint without a word on formats
    assert open_checkpoint(tmp_path / 'none' / 'epoch_2.pth')['message_hub']['runtime_info'][CHOICE] is True


@pytest.mark.slow
@pytest.mark.parametrize(('mode', 'optimizer'), [('on', dict(type='SGD', lr=.01, momentum=.9)),
                                                 ('on', dict(type='AdamW', lr=.01)), ('off', dict(type='AdamW', lr=.01))],
                         ids=['on-SGD', 'on-AdamW', 'off-AdamW'])
def test_a_run_that_is_resumed_goes_on_in_its_format_bit_by_bit_without_measuring(mode, optimizer, tmp_path):
    watch = Watch()

    def make(folder, **options):
        # What the run began with counts, whatever would be measured now.
        cfg = epochs_cfg(folder, 2, model=with_l2(), validates=True, **options)
        cfg.custom_hooks = [hook('auto' if options.get('resume') else mode), dict(type='EMAHook')]
        cfg.optim_wrapper = dict(optimizer=dict(optimizer), accumulative_counts=3)
        cfg.log_level = 'INFO'
        return cfg

    whole, resumed, losses, later = interrupted(make, tmp_path, epoch=1, before=lambda runner: runner.register_hook(watch))
    assert losses == later
    assert watch.formats == [mode == 'off'] * 16
    assert whole.message_hub.get_scalar('val/score')._log_history[-1] == resumed.message_hub.get_scalar(
        'val/score')._log_history[-1]
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
    log = ''.join(path.read_text() for path in Path(resumed.work_dir).rglob('*.log'))
    assert 'as in the run that is resumed' in log
    assert 'a training step takes' not in log


class ReadsMemory(nn.Module):
    """As operators do that were made for the plain format: they read what lies there, whatever the strides."""

    def forward(self, x):
        return x.as_strided(x.shape, (x[0].numel(), x[0, 0].numel(), x.shape[3], 1)) * 1.0


@MODELS.register_module(force=True)
class MisreadingBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), ReadsMemory(), nn.Conv2d(16, 64, 3, 2))

    def forward(self, x):
        return (self.layers(x),)


@MODELS.register_module(force=True)
class ViewingBackbone(MisreadingBackbone):
    """Takes a view that only the plain format allows."""

    def forward(self, x):
        found = self.layers(x)
        return (found.view(len(found), -1).view_as(found),)


@pytest.mark.parametrize(('backbone', 'reason'), [('MisreadingBackbone', 'the gradient of .* differs by'),
                                                  ('ViewingBackbone', 'a step in channels_last fails')])
def test_a_model_that_reads_memory_in_the_plain_order_is_left_alone(backbone, reason, tmp_path):
    model = small()
    model['backbone'] = dict(type=backbone, _scope_='mmengine')
    if backbone == 'ViewingBackbone':
        plain, auto = (trained(model, tmp_path / str(mode), mode) for mode in (None, 'auto'))
        assert_equal(plain, auto)
    with pytest.raises(DistillationError, match=f"^ChannelsLastHook.mode: .*{reason}(.|\n)*'auto' or 'off'"):
        trained(model, tmp_path / 'on', 'on')


def test_models_that_it_is_not_for_are_known_by_their_modules():
    from mmcv.ops import RoIAlign

    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2))
    for model, words in ((nn.Linear(3, 3), 'no 2-D convolution'), (shortcut, '1x1 convolution of 8 channels'),
                         (nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv3d(3, 3, 3)), '3-D convolutions'),
                         (nn.Sequential(nn.Conv2d(3, 3, 3), RoIAlign(7)), 'a RoIAlign')):
        assert words in unfit_for_channels_last(model)
    assert unfit_for_channels_last(nn.Sequential(nn.Conv2d(16, 16, 1, stride=2), nn.Conv2d(8, 8, 3, stride=2))) == ''


def test_an_unknown_mode_is_one_error(tmp_path):
    with pytest.raises(DistillationError, match=r"(?s)ChannelsLastHook.mode.*'aut'.*auto"):
        run(run_cfg(small(), tmp_path, 1, [hook('aut')]))


def test_a_checkpoint_is_changed_where_it_has_to_be_and_the_optimiser_not_at_all():
    parameter = nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD([parameter], lr=.1, momentum=.9)
    parameter.grad = torch.randn(4, 3, 3, 3)
    optimizer.step()
    optimizer.state[parameter]['momentum_buffer'] = torch.randn(4, 3, 3, 3)
    follow_parameters(optimizer)
    live = optimizer.state[parameter]['momentum_buffer']
    assert live.stride() == parameter.grad.stride() == parameter.stride()
    states = dict(optimizer=optimizer.state_dict(), meta=dict(iter=1), other=[live])
    plain = in_plain_format(states)
    saved = plain['optimizer']['state'][0]['momentum_buffer']
    assert torch.equal(saved, live)
    assert saved.is_contiguous()
    assert plain['other'][0].is_contiguous()
    assert plain['meta'] is states['meta']
    assert optimizer.state[parameter]['momentum_buffer'] is live


def worst_difference(expected, found):
    differences = GradientDifferences(dict(expected))
    for name, gradient in found.items():
        differences.add(name, gradient)
    return differences.worst()


def test_gradients_are_compared_with_their_own_norm_or_a_hundredth_of_the_largest():
    plain = dict(large=torch.full((4,), 50.), small=torch.full((4,), 1e-3), same=torch.ones(1))
    broken = dict(plain, same=torch.tensor([float('nan')]))
    assert worst_difference(plain, plain)[1] == 0
    assert worst_difference(plain, dict(plain, small=torch.full((4,), 2e-3))) == ('small', pytest.approx(2e-3))
    assert worst_difference(plain, dict(plain, large=-plain['large'])) == ('large', pytest.approx(2.0))
    assert worst_difference(plain, broken) == ('same', float('inf'))
    assert worst_difference(broken, broken)[1] == 0
    assert worst_difference(dict(same=plain['same']), {}) == worst_difference({}, dict(same=plain['same'])) == (
        'same', float('inf'))


def test_gradients_are_let_go_as_they_are_compared():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    image = torch.randn(2, 3, 8, 8)
    model(image).sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    found = GradientDifferences(expected)
    with found.of(model):
        model(image).sum().backward()
    assert found.worst()[1] == 0
    assert expected == {}
    assert all(parameter.grad is None for parameter in model.parameters())
    model(image).sum().backward()  # nothing is left that would take them
    assert all(parameter.grad is not None for parameter in model.parameters())


class Formats:
    """Notes which maps a distiller is given with their channels last, and the gradients at its student taps."""

    def __init__(self, distiller):
        self.given, self.gradients = [], []
        distiller.register_forward_pre_hook(self._note)

    def _note(self, distiller, features):
        for side in features[:2]:
            self.given += [is_channels_last(feature) for feature in side.values()]
        for feature in features[0].values():
            feature.register_hook(lambda gradient: self.gradients.append(is_channels_last(gradient)))


@pytest.mark.parametrize('teacher', [False, True], ids=['plain teacher', 'teacher in channels_last'])
@pytest.mark.parametrize('student', [False, True], ids=['plain', 'channels_last'])
@pytest.mark.parametrize('distiller', DISTILLERS)
def test_what_a_distiller_compares_is_in_the_students_format_and_gives_the_same_losses(distiller, student, teacher):
    """Nor does a loss hand a gradient back in another format."""
    losses, seen = [], None
    for formats in ((False, False), (student, teacher)):
        cfg = distilled(small(), small(widen_factor=2), d=DISTILLERS[distiller])
        cfg['teacher']['config']['head']['in_channels'] = 128
        cfg['teacher']['runtime'] = dict(channels_last=formats[1])
        torch.manual_seed(0)
        model = build(cfg).train()
        for stage in getattr(model.distillation.d, 'stages', ()):
            stage.assignment.copy_(torch.randperm(stage.assignment.numel()).view_as(stage.assignment))
            stage.matched = True
        set_format(model, formats[0])
        seen = Formats(model.distillation.d)
        data = model.data_preprocessor(batch('mmpretrain'), True)
        found = model(**data, mode='loss')
        losses.append({name: value for name, value in found.items() if name.startswith('d.')})
        sum(losses[-1].values()).backward()
    assert set(seen.given) == {student}
    assert set(seen.gradients) == {student}
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-5, atol=0)
