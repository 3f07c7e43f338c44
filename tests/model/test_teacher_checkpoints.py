"""A teacher's checkpoint: weights of a floating type, finite, not all zero; whatever else is one error that names it."""
import pytest
import torch
from zoo import build, classifier, distilled

from mmkd_plugin.utils.errors import DistillationError

WEIGHT, NORM, COUNT = 'backbone.layer4.1.conv2.weight', 'backbone.layer4.1.bn2.weight', 'backbone.bn1.num_batches_tracked'


def state():
    torch.manual_seed(7)
    return build(classifier()).state_dict()


def with_file(tmp_path, content):
    torch.save(content, tmp_path / 'teacher.pth')
    return build(distilled(classifier(), classifier(), dict(checkpoint=str(tmp_path / 'teacher.pth'))))


def refused(tmp_path, content, message):
    with pytest.raises(DistillationError, match=rf'^model\.teacher\.checkpoint: .*teacher\.pth. {message}') as error:
        with_file(tmp_path, content)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize('kind', ['int8', 'uint8', 'bool', 'int32', 'int64', 'complex64', 'float8_e5m2'])
def test_weights_of_another_kind_are_refused(tmp_path, kind):
    weights = state()
    weights[WEIGHT] = weights[WEIGHT].to(getattr(torch, kind))
    try:
        torch.save(weights, tmp_path / 'teacher.pth')
    except KeyError as error:
        pytest.skip(f'this torch cannot save such weights: {error.args[0]}')
    refused(tmp_path, dict(state_dict=weights),
            f'holds {WEIGHT} as {kind}. Accepted: float16, bfloat16, float32, float64')


@pytest.mark.parametrize('kind', ['float16', 'bfloat16', 'float32', 'float64'])
def test_weights_of_every_floating_type_are_the_teachers(tmp_path, kind):
    weights = {name: value.to(getattr(torch, kind)) if value.is_floating_point() else value
               for name, value in state().items()}
    loaded = with_file(tmp_path, weights).distillation.teacher.model.state_dict()
    for name, value in weights.items():
        assert torch.equal(loaded[name], value.to(loaded[name].dtype)), name


def test_counts_may_be_of_any_type_that_holds_them(tmp_path):
    weights = state()
    weights[COUNT] = torch.tensor(3, dtype=torch.int32)
    assert int(with_file(tmp_path, weights).distillation.teacher.model.state_dict()[COUNT]) == 3
    weights[COUNT] = torch.tensor(2.5)
    refused(tmp_path, weights, f'holds {COUNT} as float32, with numbers that int64 does not have. Accepted: int64')


@pytest.mark.parametrize('number', ['nan', 'inf', '-inf', '1e300'])
def test_weights_that_are_not_finite_are_refused(tmp_path, number):
    weights = state()
    weights[WEIGHT] = weights[WEIGHT].double()
    weights[WEIGHT][0, 0] = float(number)  # 1e300: float32 has none
    refused(tmp_path, weights, f'holds NaN or infinity in {WEIGHT}. Accepted: finite numbers')


def test_a_teacher_of_zeros_is_refused(tmp_path):
    weights = {name: torch.zeros_like(value) for name, value in state().items()}
    refused(tmp_path, weights, r'holds nothing but zeros in (\d+) of the \1 matrices and kernels of the teacher .*'
            'Accepted: trained weights')


def test_a_weight_of_zeros_is_a_weight(tmp_path):
    weights = state()
    weights[NORM].zero_()  # as residual branches begin
    weights[WEIGHT].zero_()
    loaded = with_file(tmp_path, weights).distillation.teacher.model.state_dict()
    assert not loaded[WEIGHT].any()
    assert not loaded[NORM].any()


@pytest.mark.parametrize(('change', 'message'), [
    (lambda weights: [weights], 'is not a checkpoint: no weights under "state_dict" or at the top'),
    (lambda weights: dict(state_dict=list(weights.values())), 'is not a checkpoint: no weights'),
    (lambda weights: dict(state_dict=dict(state_dict=weights)), 'is not a checkpoint: no weights'),
    (lambda weights: {**weights, 5: torch.ones(1)}, 'has weights under 5. Accepted: names'),
    (lambda weights: {**weights, None: torch.ones(1)}, 'has weights under None. Accepted: names'),
    (lambda weights: {**weights, WEIGHT: [1.0]}, 'covers .* Missing: ' + WEIGHT),
    (lambda weights: {**weights, WEIGHT: torch.ones(0)}, 'covers .* Of another shape: .*' + WEIGHT),
    (lambda weights: {**weights, WEIGHT: torch.tensor(1.)}, 'covers .* Of another shape: .*' + WEIGHT),
    (lambda weights: {**weights, WEIGHT: torch.ones(1, 1, 1, 1)}, 'covers .* Of another shape: .*' + WEIGHT),
    (lambda weights: {**weights, WEIGHT: torch.ones(1).expand(2 ** 30)}, 'is not a checkpoint that can be read safely'),
    (lambda weights: {**weights, WEIGHT: torch.ones(2, 2).to_sparse()},
     'is not a checkpoint that can be read safely: it asks for torch._utils._rebuild_sparse_tensor')],
    ids=['a-list', 'values-only', 'nested-twice', 'a-number-as-name', 'no-name', 'a-list-as-weight', 'empty', 'a-number',
         'one', 'spread', 'sparse'])
def test_files_of_another_form_are_one_error(tmp_path, change, message):
    refused(tmp_path, change(state()), message)


@pytest.mark.parametrize('value', [torch.ones(2), torch.ones(1, 7, 3), torch.tensor(1.), torch.ones(1, 0, 4)],
                         ids=['vector', 'odd', 'number', 'empty'])
def test_an_error_inside_a_modules_own_hook_is_one_error(tmp_path, value):
    """A vision transformer resizes its position embedding, whatever it is."""
    vit = dict(type='ImageClassifier', _scope_='mmpretrain', neck=None,
               backbone=dict(type='VisionTransformer', img_size=32, patch_size=16,
                             arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)),
               head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=16))
    weights = build(vit).state_dict()
    weights['backbone.pos_embed'] = value
    torch.save(weights, tmp_path / 'teacher.pth')
    with pytest.raises(DistillationError, match=r'^model\.teacher\.checkpoint: .*teacher\.pth'):
        build(distilled(classifier(), vit, dict(checkpoint=str(tmp_path / 'teacher.pth'))))


@pytest.mark.parametrize('path', ['~nobody-of-this-name/x.pth', 'x' * 5000, 'a\0b', '/dev/zero', '\ud800', 'https://', 'http://[x'],
                         ids=['no-user', 'too-long', 'NUL', 'a-device', 'half-a-letter', 'no-address', 'no-host'])
def test_a_path_that_is_none_is_one_error(path):
    with pytest.raises(DistillationError, match=r'^model\.teacher\.checkpoint: '):
        build(distilled(classifier(), classifier(), dict(checkpoint=path)))


def test_what_is_missing_is_counted_beside_what_has_another_shape(tmp_path):
    weights = state()
    gone = [name for name in weights if name.startswith('backbone.layer4.') and not name.endswith('num_batches_tracked')]
    found = {name: value for name, value in weights.items() if name not in gone}
    refused(tmp_path, {**found, WEIGHT: torch.ones(1, 1, 1, 1)},
            rf'covers {len(weights) - len(gone)} of the {len(weights)} weights .*Of another shape: .*{WEIGHT}.*Missing: '
            rf'{gone[0]}')
