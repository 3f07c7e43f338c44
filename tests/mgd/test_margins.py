"""Numbers T6 and T20 of the specification."""
import pytest
import torch

from mmkd_plugin.losses.margins import margin_relu, margins_from_norm, margins_from_sums, negative_sums


@pytest.mark.parametrize(('weight', 'bias', 'margin'), [
    (1, 0, -.7978846), (2, 1, -1.2821555), (-2, 1, -1.2821555), (1, 3, -.2830987), (1, 4, -3), (1, -1, -1.2876),
    (.5, -2, -2.0000669), (1, 3.09, -.2768735), (1, 3.1, -3),
])
def test_T6_margins_from_a_batch_norm(weight, bias, margin):
    result = margins_from_norm(torch.tensor([float(weight)], dtype=torch.float64),
                               torch.tensor([float(bias)], dtype=torch.float64))
    assert result.item() == pytest.approx(margin, abs=2e-6)


def test_T6_agrees_with_sampling():
    generator = torch.Generator().manual_seed(0)
    response = torch.randn(1_000_000, generator=generator, dtype=torch.float64) * 1.5 + .7
    margin = margins_from_norm(torch.tensor([1.5], dtype=torch.float64), torch.tensor([.7], dtype=torch.float64))
    assert margin.item() == pytest.approx(response[response < 0].mean().item(), abs=5e-3)


def test_T20_a_silent_norm_gives_its_limit():
    margins = margins_from_norm(torch.zeros(2), torch.tensor([-.5, .5]))
    assert margins.tolist() == [-.5, 0]


def test_margins_from_data_are_mean_negative_responses():
    feature = torch.randn(4, 3, 5, 5)
    feature[:, 2] = feature[:, 2].abs()
    sums = negative_sums(feature[:2]) + negative_sums(feature[2:])
    margins = margins_from_sums(sums)
    for channel in range(2):
        values = feature[:, channel]
        assert margins[channel].item() == pytest.approx(values[values < 0].mean().item(), abs=1e-6)
    assert margins[2] == 0


def test_the_margin_relu_of_a_batch_clamps_to_the_mean_negative_response():
    feature = torch.tensor([[[[1., -1., -3., 2.]], [[5., 6., 7., 8.]]]])
    assert margin_relu(feature).tolist() == [[[[1., -1., -2., 2.]], [[5., 6., 7., 8.]]]]
    valid = torch.tensor([[[[True, True, False, True]]]])
    assert margin_relu(feature, valid)[..., valid[0, 0, 0]].tolist() == [[[[1., -1., 2.]], [[5., 6., 8.]]]]
