"""MobileNet is the published network: parameters, resolutions, and what stands before the last activation of a stage."""
import torch
from mmengine.registry import MODELS

from mmkd_plugin.taps import FeatureTaps

BACKBONE = dict(type='mmkd.MobileNetV1', out_indices=(0, 1, 2, 3, 4))


def test_parameters_are_as_many_as_published():
    backbone = MODELS.build(BACKBONE)
    # 4.2 million with 1000 classes (table 8 of the paper); 4,231,976 in the public PyTorch versions.
    assert sum(parameter.numel() for parameter in backbone.parameters()) + 1024 * 1000 + 1000 == 4231976


def test_stages_halve_the_resolution_and_are_as_wide_as_published():
    outputs = MODELS.build(BACKBONE)(torch.randn(2, 3, 64, 96))
    assert [tuple(output.shape[1:]) for output in outputs] == [
        (64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (1024, 2, 3)]


def test_the_preactivation_of_a_stage_is_the_output_of_its_last_norm():
    backbone = MODELS.build(BACKBONE).eval()
    images = torch.randn(1, 3, 32, 32)
    taps = FeatureTaps(backbone, 'student', ['layer3@preact', 'layer3'])
    with torch.no_grad():
        taps.settle(lambda: backbone(images), images)
        with taps.record() as recording:
            backbone(images)
    features = recording.features(images)
    assert features['layer3@preact'].min() < 0
    assert torch.equal(features['layer3@preact'].relu(), features['layer3'])
    assert taps.info['layer3@preact'].norm is backbone.layer3[-1][4]
