"""A forward-mode pass with what the training forward computed is the pass without it, and computes less."""
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from zoo import build, pspnet

from mmkd_plugin.distpro.forward_tape import ForwardTape, TapeReplay
from mmkd_plugin.distpro.hypergradient import global_norm, tangents


class Net(nn.Module):
    """What a tape notes, and what lies between: changes in place, a residual, an upsampling, norms in both modes."""

    def __init__(self, in_place=True, affine=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(4, affine=affine)
        self.bare = nn.Conv2d(4, 4, 3, padding=1)  # changed in place by the activation after it
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.norm2.eval()
        self.fc = nn.Linear(6, 5)
        self.act = nn.ReLU(inplace=in_place)

    def forward(self, images):
        features = self.act(self.norm1(self.stem(images)))
        features = features + self.act(self.bare(features))
        features = self.act(self.norm2(self.up(features)))
        return features, self.fc(features.mean((2, 3)))


def taped(net, images):
    tape = ForwardTape(lambda: False)
    with tape:
        outputs = net(images)
    return tape, outputs


def directions(net):
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in net.named_parameters()}


def pass_over(net, images, tape=None, only=None, context=nullcontext):
    point = {name: value.detach().clone() for name, value in net.named_parameters()}
    own = {name: id(value) for name, value in net.named_parameters()}
    direction = {name: value for name, value in directions(net).items() if only is None or name.startswith(only)}

    def run(weights):
        replay = nullcontext() if tape is None else TapeReplay(tape, {id(value): own[name]
                                                                      for name, value in weights.items()})
        with replay, context():
            return functional_call(net, weights, (images,))
    return tangents(run, point, direction)


@pytest.mark.parametrize('only', [None, 'norm', 'bare', 'fc'], ids=['all', 'norms', 'one convolution', 'linear'])
@pytest.mark.parametrize(('in_place', 'affine'), [(True, True), (False, False)], ids=['in place', 'not affine'])
def test_the_tangents_are_those_of_the_whole_pass(in_place, affine, only):
    torch.manual_seed(0)
    net = Net(in_place, affine).double()
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    tape, _ = taped(net, images)
    expected = pass_over(net, images, only=only)
    for found, right in zip(pass_over(net, images, tape, only), expected):
        torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-12)
    assert max(right.abs().max() for right in expected) > 1e-3


def test_a_convolution_whose_output_is_kept_is_not_computed_again():
    torch.manual_seed(0)
    net, images = Net(in_place=False), torch.randn(3, 3, 6, 6)
    tape, _ = taped(net, images)
    kept = [bool(entry.kept) for entry in tape.entries]
    assert kept == [True] * 4 + [False, True]  # a norm with fixed statistics has none of its own

    def watched(module):
        calls = []
        module.register_forward_hook(lambda module, args, output: calls.append(output))
        return calls

    stem = watched(net.stem)
    pass_over(net, images, tape)
    primal = torch.autograd.forward_ad.unpack_dual(stem[0]).primal
    assert primal.data_ptr() == tape.entries[0].kept[0].data_ptr()


def test_a_forward_that_goes_another_way_is_computed():
    torch.manual_seed(0)
    net, images = Net().double(), torch.randn(3, 3, 6, 6, dtype=torch.float64)
    tape, _ = taped(net, images)
    tape.entries.insert(1, tape.entries[0])  # as if the stem had run twice
    for found, right in zip(pass_over(net, images, tape), pass_over(net, images)):
        torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-12)


def test_what_comes_after_the_last_tap_and_what_has_no_gradient_is_not_kept():
    net, images = Net(), torch.randn(3, 3, 6, 6)
    seen = []
    tape = ForwardTape(lambda: len(seen) > 1)
    net.up.register_forward_hook(lambda *_: seen.extend((1, 2)))
    with tape:
        net(images)
    assert [entry.function for entry in tape.entries] == [F.conv2d, F.batch_norm, F.conv2d, F.conv_transpose2d]
    with torch.no_grad():
        tape, _ = taped(net, images)
    assert not any(entry.kept for entry in tape.entries)


@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
def test_a_real_backbone_in_full_and_half_precision(precision):
    # In bfloat16 both passes round; they differ as little as two roundings do.
    net = build(pspnet(), attach=False).backbone
    net.train()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def autocast():
        return torch.autocast('cpu', torch.bfloat16, enabled=precision == torch.bfloat16)

    with autocast():
        tape, _ = taped(net, images)
    assert sum(bool(entry.kept) for entry in tape.entries) >= len(tape.entries) // 2
    found, right = (dict(enumerate(pass_over(net, images, given, context=autocast))) for given in (tape, None))
    difference = {number: found[number].float() - right[number].float() for number in found}
    assert global_norm(difference) / global_norm(right) < (1e-5 if precision == torch.float32 else .1)
