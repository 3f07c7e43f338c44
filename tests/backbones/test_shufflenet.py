"""The ShuffleNets of the distillation literature: parameter counts, shapes, taps, and the published arithmetic of V2."""
import pytest
import torch
from mmengine.registry import MODELS

from mmkd_plugin.backbones.shufflenet import SplitBlock, shuffle
from mmkd_plugin.taps import FeatureTaps
from mmkd_plugin.utils.errors import DistillationError


def build(version):
    return MODELS.build(dict(type=f'mmkd.CIFARShuffleNetV{version}', out_indices=(0, 1, 2, -1)))


# Millions with 100 classes, as published with RepDistiller (Tian et al., ICLR 2020).
@pytest.mark.parametrize(('version', 'width', 'count'), [(1, 960, 0.95), (2, 1024, 1.36)])
def test_parameters_are_as_many_as_in_the_literature(version, width, count):
    parameters = sum(parameter.numel() for parameter in build(version).parameters()) + width * 100 + 100
    assert round(parameters / 1e6, 2) == count


@pytest.mark.parametrize(('version', 'shapes'), [
    (1, [(240, 16, 16), (480, 8, 8), (960, 4, 4)]),
    (2, [(116, 16, 16), (232, 8, 8), (464, 4, 4), (1024, 4, 4)])])
def test_stages_halve_the_resolution(version, shapes):
    assert [tuple(output.shape[1:]) for output in build(version)(torch.randn(2, 3, 32, 32))] == shapes


@pytest.mark.parametrize('version', [1, 2])
def test_the_preactivation_of_a_stage_is_what_its_relu_makes_the_output_of(version):
    backbone = build(version).eval()
    images = torch.randn(1, 3, 32, 32)
    taps = FeatureTaps(backbone, 'student', ['norm1@preact', 'layer2@preact', 'layer2'])
    with torch.no_grad():
        taps.settle(lambda: backbone(images), images)
        with taps.record() as recording:
            backbone(images)
    features = recording.features(images)
    assert features['layer2@preact'].min() < 0
    assert torch.equal(features['layer2@preact'].relu(), features['layer2'])
    assert features['norm1@preact'].shape == (1, 24, 32, 32)


def test_shuffling_interleaves_the_groups():
    assert shuffle(torch.arange(6.).view(1, 6, 1, 1), 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_one_activation_after_the_shuffle_is_the_published_block():
    # There the branch is activated, joined and shuffled; the half that is passed on has been activated before.
    block, x = SplitBlock(8).eval(), torch.rand(2, 8, 4, 4)
    passed, used = x.chunk(2, 1)
    published = shuffle(torch.cat([passed, block.branch(used).relu()], 1), 2)
    assert torch.equal(block(x), published)


@pytest.mark.parametrize(('factor', 'widths'), [(.5, [48, 96, 192, 1024]), (1.0, [116, 232, 464, 1024]),
                                                (2.0, [244, 488, 976, 2048])])
def test_widths_of_V2(factor, widths):
    backbone = MODELS.build(dict(type='mmkd.CIFARShuffleNetV2', widen_factor=factor, out_indices=(0, 1, 2, 3)))
    outputs = backbone(torch.zeros(1, 3, 32, 32))
    assert [tuple(output.shape[1:]) for output in outputs] == list(zip(widths, (16, 8, 4, 4), (16, 8, 4, 4)))


def test_another_width_is_refused():
    with pytest.raises(DistillationError, match='widen_factor: 3. Accepted: 0.5, 1.0, 1.5, 2.0'):
        MODELS.build(dict(type='mmkd.CIFARShuffleNetV2', widen_factor=3))
