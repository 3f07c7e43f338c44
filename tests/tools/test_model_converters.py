"""The converter of an ImageNet MobileNetV2, with random weights in the names of the network it comes from."""
import importlib.util
from pathlib import Path

import pytest
import torch
from mmpretrain.models import MobileNetV2
from mmseg.models.backbones import MobileNetV2 as OfSegmentors

PATH = Path(__file__).resolve().parents[2] / 'tools/model_converters/mobilenet_v2.py'


@pytest.fixture(scope='module')
def converter():
    spec = importlib.util.spec_from_file_location('mobilenet_v2', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given():
    """The tensors of a MobileNetV2 as another library names them, each with values of its own."""
    return {f'features.{number}': torch.full_like(tensor, number + 1)
            for number, tensor in enumerate(MobileNetV2().state_dict().values())}


def test_both_libraries_find_all_their_weights_in_what_is_written(converter):
    converted = {name.removeprefix('backbone.'): tensor for name, tensor in converter.convert(given()).items()}
    for backbone in (MobileNetV2(), OfSegmentors()):
        assert backbone.load_state_dict(converted, strict=False).missing_keys == []
        assert all(torch.equal(tensor, converted[name]) for name, tensor in backbone.state_dict().items())
    assert converted['conv1.conv.weight'].unique().tolist() == [1]
    assert converted['layer1.0.conv.0.conv.weight'].unique().tolist() == [7]


def test_other_networks_are_refused(converter):
    weights = given()
    with pytest.raises(ValueError, match='311 tensors, not 312'):
        converter.convert(dict(list(weights.items())[:-1]))
    with pytest.raises(ValueError, match=r'features\.0 has the shape \(1,\), conv1\.conv\.weight \(32, 3, 3, 3\)'):
        converter.convert({**weights, 'features.0': torch.zeros(1)})


def test_a_file_that_is_not_the_known_one_is_not_opened(converter, tmp_path):
    (tmp_path / 'weights.pt').write_bytes(b'something else')
    with pytest.raises(SystemExit, match='weights.pt: the weights have the SHA-256 f41f3fa6'):
        converter.read(tmp_path / 'weights.pt')
