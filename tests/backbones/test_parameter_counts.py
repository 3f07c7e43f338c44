"""The registered backbones are the literature's networks: parameter counts with a head of 100 classes, shapes, taps."""
import pytest
import torch
from mmengine.registry import MODELS

from mmkd_plugin.taps import FeatureTaps
from mmkd_plugin.utils.errors import DistillationError

# Millions with 100 classes, as published: RepDistiller (Tian et al., ICLR 2020), Heo et al. (ICCV 2019).
COUNTS = [('CIFARResNet', 8, 1, 0.08), ('CIFARResNet', 20, 1, 0.28), ('CIFARResNet', 32, 1, 0.47),
          ('CIFARResNet', 56, 1, 0.86), ('CIFARResNet', 110, 1, 1.74), ('CIFARResNet', 8, 4, 1.23),
          ('CIFARResNet', 32, 4, 7.43), ('WideResNet', 16, 2, 0.70), ('WideResNet', 40, 1, 0.57),
          ('WideResNet', 40, 2, 2.26), ('WideResNet', 16, 4, 2.77), ('WideResNet', 28, 4, 5.87)]


@pytest.mark.parametrize(('kind', 'depth', 'factor', 'count'), COUNTS)
def test_parameters_are_as_many_as_in_the_literature(kind, depth, factor, count):
    backbone = MODELS.build(dict(type=f'mmkd.{kind}', depth=depth, widen_factor=factor))
    head = 64 * factor * 100 + 100
    assert round((sum(parameter.numel() for parameter in backbone.parameters()) + head) / 1e6, 2) == count


@pytest.mark.parametrize(('kind', 'depth'), [('CIFARResNet', 8), ('WideResNet', 16)])
def test_stages_halve_the_resolution_and_double_the_width(kind, depth):
    backbone = MODELS.build(dict(type=f'mmkd.{kind}', depth=depth, widen_factor=2, out_indices=(0, 1, -1)))
    outputs = backbone(torch.randn(2, 3, 32, 32))
    assert [tuple(output.shape) for output in outputs] == [(2, 32, 32, 32), (2, 64, 16, 16), (2, 128, 8, 8)]


@pytest.mark.parametrize(('kind', 'depth'), [('CIFARResNet', 8), ('WideResNet', 16)])
def test_the_preactivation_of_a_stage_is_what_its_relu_makes_the_output_of(kind, depth):
    backbone = MODELS.build(dict(type=f'mmkd.{kind}', depth=depth, widen_factor=2)).eval()
    images = torch.randn(1, 3, 32, 32)
    taps = FeatureTaps(backbone, 'student', ['layer2@preact', 'layer2'])
    with torch.no_grad():
        taps.settle(lambda: backbone(images), images)
        with taps.record() as recording:
            backbone(images)
    features = recording.features(images)
    assert features['layer2@preact'].min() < 0
    assert torch.equal(features['layer2@preact'].relu(), features['layer2'])
    assert taps.info['layer2@preact'].norm is not None


@pytest.mark.parametrize(('kind', 'depth', 'accepted'), [('CIFARResNet', 18, '6n + 2'), ('WideResNet', 18, '6n + 4')])
def test_other_depths_are_refused(kind, depth, accepted):
    with pytest.raises(DistillationError, match=accepted.replace('+', r'\+')):
        MODELS.build(dict(type=f'mmkd.{kind}', depth=depth))


def test_a_stage_that_does_not_exist_is_refused():
    with pytest.raises(DistillationError, match='out_indices: 3'):
        MODELS.build(dict(type='mmkd.WideResNet', depth=16, out_indices=(3,)))
