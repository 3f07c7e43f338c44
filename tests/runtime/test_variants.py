"""Every variant gives the plain network's features; what a tap needs is left as it is; the way back is exact."""
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from zoo import classifier, pspnet

from mmkd_plugin.runtime import Call, Runtime
from mmkd_plugin.runtime.compiled import Compiled
from mmkd_plugin.runtime.folding import foldable_pairs
from mmkd_plugin.runtime.options import RUNTIME
from mmkd_plugin.runtime.trial import candidates
from mmkd_plugin.runtime.variants import PLAIN, TOLERANCE, Holder, Variant, difference
from mmkd_plugin.taps import FeatureTaps, dry_run
from mmkd_plugin.utils.errors import DistillationError


def classifier_of(backbone, channels):
    return dict(type='ImageClassifier', _scope_='mmpretrain', backbone=backbone, neck=None, head=dict(
        type='LinearClsHead', num_classes=5, in_channels=channels))


NETWORKS = {
    'resnet-mmseg': (pspnet(8), ['backbone.layer2.0@end', 'backbone.layer3@preact', 'backbone.layer4', 'backbone[1]']),
    'resnet-mmpretrain': (classifier(8), ['backbone.layer1.0.conv1@in', 'backbone.layer3', 'backbone.layer4@preact']),
    'mobilenet': (classifier_of(dict(type='MobileNetV2', widen_factor=.25, out_indices=(2, 5)), 320),
                  ['backbone.layer2@preact', 'backbone.layer3', 'backbone[1]']),
    'swin': (classifier_of(dict(type='SwinTransformer', img_size=64, window_size=4, out_indices=(0, 1), arch=dict(
        embed_dims=16, depths=[2, 2], num_heads=[2, 2])), 32), ['backbone[0]', 'backbone[1]']),
    'vit': (classifier_of(dict(type='VisionTransformer', img_size=64, patch_size=16, arch=dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)), 16),
        ['backbone.layers.0', 'backbone.layers.1.ffn@in'])}
VARIANTS = [Variant(True), Variant(False, True), Variant(True, True)]


def built(cfg):
    """A network in eval mode whose batch norms do something."""
    init_default_scope(cfg['_scope_'])
    model = MODELS.build(cfg).eval().requires_grad_(False)
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.normal_(0, .3)
            norm.running_var.uniform_(.5, 2)
            norm.weight.uniform_(.5, 2)
            norm.bias.normal_(0, .3)
    return model


def settled(model, addresses, size=64):
    taps = FeatureTaps(model, 'teacher', addresses)
    dry_run(model, taps, torch.zeros(1, 3, size, size))
    return taps


def runtime_of(model, taps, wanted='plain'):
    return Runtime(model, taps, lambda inputs, samples: model(inputs, samples, mode='tensor'), RUNTIME.read(wanted))


def state_of(model):
    return {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}


@pytest.fixture(scope='module', params=NETWORKS)
def network(request):
    """A network, its taps, and what the plain one gives for a batch."""
    torch.manual_seed(0)
    cfg, addresses = NETWORKS[request.param]
    model = built(cfg)
    taps, call = settled(model, addresses), Call(torch.randn(2, 3, 64, 64))
    return request.param, model, taps, call, runtime_of(model, taps).features(call)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_a_variant_has_the_plain_features_and_the_way_back_is_exact(variant, network):
    _, model, taps, call, plain = network
    runtime, before = runtime_of(model, taps), state_of(model)
    holder = Holder(model, runtime._pairs(call))
    holder.hold(variant)
    found = runtime._run_as(call, variant)
    holder.hold(PLAIN)
    assert list(found) == list(plain)
    assert difference(found.values(), plain.values()) <= TOLERANCE
    after = state_of(model)
    assert all(torch.equal(value, after[name][0]) and stride == after[name][1] for name, (value, stride) in before.items())
    assert all(torch.equal(feature, plain[name]) for name, feature in runtime.features(call).items())


def test_half_precision_is_held_and_runs_under_autocast(network):
    _, model, taps, call, plain = network
    variant = Variant(True, True, torch.bfloat16)
    runtime = runtime_of(model, taps)
    holder = Holder(model, runtime._pairs(call))
    holder.hold(variant)
    found = runtime._run_as(call, variant)
    kept = {parameter.dtype for module in model.modules() if not isinstance(module, _BatchNorm)
            for parameter in module.parameters(recurse=False)}
    holder.hold(PLAIN)
    assert kept == {torch.bfloat16}
    assert {feature.dtype for feature in found.values()} == {torch.float32}, 'as losses want it'
    assert 1e-4 < difference(found.values(), plain.values()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize('network', ['resnet-mmseg', 'swin', 'vit'], indirect=True)
def test_the_graph_of_a_compiled_network_has_the_plain_features(network):
    _, model, taps, call, plain = network
    compiled = Compiled(runtime_of(model, taps).features, backend='eager')
    for _ in range(2):
        found = compiled(call)
        assert list(found) == list(plain)
        assert difference(found.values(), plain.values()) <= TOLERANCE
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_is_tried_depends_on_what_the_network_has(network):
    name, model, taps, call, _ = network
    folds = bool(runtime_of(model, taps)._pairs(call))
    assert folds == (name not in ('swin', 'vit'))
    assert [str(variant) for variant in candidates(model, folds)] == (
        ['fold_bn', 'fold_bn + channels_last', 'channels_last'] if folds else ['channels_last'])
    assert candidates(nn.Linear(2, 2), False) == []


def folded_norms(model, addresses, size=64):
    names = {module: name for name, module in model.named_modules()}
    pairs = runtime_of(model, settled(model, addresses))._pairs(Call(torch.randn(1, 3, size, size)))
    return {names[pair.norm].removeprefix('backbone.') for pair in pairs}


@pytest.mark.parametrize(('taps', 'left_out'), [
    ([], set()), (['backbone.layer2.0.conv1'], {'layer2.0.bn1'}), (['backbone.layer2.0.bn1@in'], {'layer2.0.bn1'}),
    (['backbone.layer2.0.bn1'], set()), (['backbone.layer2.0.bn2@in', 'backbone.layer3.0.downsample.0'], {
        'layer2.0.bn2', 'layer3.0.downsample.1'})], ids=['none', 'conv', 'norm-in', 'norm-out', 'two'])
def test_only_the_norm_behind_a_tap_is_left_out(taps, left_out):
    model = built(classifier(4))
    norms = {name.removeprefix('backbone.') for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    assert folded_norms(model, [*taps, 'backbone.layer4']) == norms - left_out


def test_what_runs_after_the_deepest_tap_is_left_alone():
    assert folded_norms(built(classifier(4)), ['backbone.layer1.0.conv1@in']) == {'bn1'}


class Branches(nn.Module):
    """What may stand around a convolution and a norm, and whether the norm can go."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.norm.running_var.fill_(2.)
        if kind == 'spectral':
            self.conv = nn.utils.parametrizations.spectral_norm(self.conv)
        if kind == 'no-statistics':
            self.norm = nn.BatchNorm2d(4, track_running_stats=False)
        if kind == 'plain-numbers':
            self.norm = nn.BatchNorm2d(4, affine=False)
            self.norm.running_mean.fill_(1.)
        self.eval().requires_grad_(False)

    def forward(self, image):
        found = self.conv(image)
        more = {'shortcut': lambda: self.norm(found) + found, 'two-norms': lambda: self.norm(found) + self.second(found),
                'shared-norm': lambda: self.norm(found) + self.norm(self.other(image)),
                'same-conv-twice': lambda: self.norm(found) + self.norm(self.conv(image + 1)),
                'conv-with-two-norms': lambda: self.norm(found) + self.second(self.conv(image + 1)),
                'norm-elsewhere': lambda: self.norm(found) + self.norm(image[:, :1].expand(-1, 4, -1, -1)).mean(),
                'function': lambda: nn.functional.batch_norm(found, self.norm.running_mean, self.norm.running_var),
                'view': lambda: self.norm(found) + found.flatten(2).mean()}
        return more.get(self.kind, lambda: self.norm(found))()


@pytest.mark.parametrize(('kind', 'folds'), [
    ('plain', True), ('plain-numbers', True), ('same-conv-twice', True), ('shortcut', False), ('two-norms', False),
    ('shared-norm', False), ('conv-with-two-norms', False), ('norm-elsewhere', False), ('function', False), ('view', False),
    ('spectral', False), ('no-statistics', False)])
def test_a_norm_is_folded_only_where_nobody_can_tell(kind, folds):
    model, image = Branches(kind), torch.randn(2, 3, 8, 8)
    pairs = foldable_pairs(model, lambda: [model(image)])
    assert [(pair.conv, pair.norm) for pair in pairs] == ([(model.conv, model.norm)] if folds else [])
    plain = model(image)
    Holder(model, pairs).stay_with(Variant(True))
    assert torch.allclose(model(image), plain, atol=1e-6)


def test_the_folded_weights_are_those_of_the_formula():
    conv, norm = nn.Conv2d(2, 3, 3).double(), nn.BatchNorm2d(3).double().eval().requires_grad_(False)
    for tensor in (norm.running_mean, norm.weight, norm.bias):
        tensor.normal_()
    norm.running_var.uniform_(.5, 2)
    pair, = foldable_pairs(nn.Sequential(conv, norm), lambda: [norm(conv(torch.zeros(1, 2, 4, 4).double()))])
    weight, bias = pair.folded()
    for channel in range(3):
        scale = norm.weight[channel] / (norm.running_var[channel] + norm.eps) ** .5
        assert torch.allclose(weight[channel], conv.weight[channel] * scale, rtol=1e-12)
        expected = norm.bias[channel] + (conv.bias[channel] - norm.running_mean[channel]) * scale
        assert torch.allclose(bias[channel], expected, rtol=1e-12)


def test_tied_weights_stay_tied_and_nothing_is_kept_twice_after_the_choice():
    first, second = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    second.weight = first.weight
    model = nn.Sequential(first, nn.BatchNorm2d(4), second).eval().requires_grad_(False)
    holder = Holder(model, [])
    holder.stay_with(Variant(False, True))
    assert first.weight.data_ptr() == second.weight.data_ptr()
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert not holder._replaced


@pytest.mark.parametrize('channels_last', [False, True])
def test_features_come_in_the_format_of_the_network(channels_last):
    model = built(classifier(4))
    runtime = runtime_of(model, settled(model, ['backbone.layer2']), dict(channels_last=channels_last))
    feature = runtime.features(Call(torch.randn(2, 3, 64, 64)))['backbone.layer2']
    assert feature.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert feature.is_contiguous() != channels_last


class Awkward(nn.Module):
    """Runs in one memory format only, or by what its numbers are."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(3, 4, 3).requires_grad_(False)

    def forward(self, inputs, data_samples, mode='tensor'):
        found = self.conv(inputs)
        if self.kind == 'views':
            return found.view(len(found), -1, *found.shape[2:])[:, :4] + found.view(-1)[0]
        if self.kind == 'numbers' and found.sum() > 0:
            found = found + 1
        return found + len(data_samples[0]) if self.kind == 'samples' else found


@pytest.mark.parametrize(('kind', 'wanted', 'message'), [
    ('views', dict(channels_last=True), r'^runtime: the network does not run as channels_last \(RuntimeError: view size'),
    ('samples', dict(compile=True), r'^runtime\.compile: True cannot be done with this network \(TypeError.*False, for it'),
    ('numbers', dict(compile=True), r'^runtime\.compile: True cannot be done with this network \(RuntimeError'),
    ('plain', dict(precision='float16'), r"^runtime\.precision: 'float16' is for a GPU.* Accepted: None on a CPU")],
    ids=['format', 'samples', 'numbers', 'precision'])
def test_what_does_not_fit_a_network_is_one_error(kind, wanted, message):
    model = Awkward(kind)
    taps = FeatureTaps(model, 'teacher', ['conv'])
    runtime = Runtime(model, taps, lambda inputs, samples: model(inputs, samples), RUNTIME.read(wanted))
    if kind != 'plain':
        model.last = nn.Identity()
        model.forward = lambda inputs, samples: model.last(Awkward.forward(model, inputs, samples))
        taps.add(model, ['last'])
    with pytest.raises(DistillationError, match=message):
        runtime.features(Call(torch.randn(2, 3, 8, 8), ['x', 'y']))


@pytest.mark.parametrize(('value', 'message'), [
    ('fast', r"'fast'.*'plain', 'auto'"), (5, 'Accepted: a dict with some of fold_bn'),
    (dict(fold=True), "Did you mean 'fold_bn'"), (dict(fold_bn=1), 'fold_bn: 1. Accepted: True or False'),
    (dict(precision='float61'), "Did you mean 'float16'"),
    (None, 'None')], ids=['name', 'number', 'key', 'flag', 'precision', 'none'])
def test_a_bad_value_is_one_error(value, message):
    with pytest.raises(DistillationError, match=message):
        RUNTIME.read(value)
