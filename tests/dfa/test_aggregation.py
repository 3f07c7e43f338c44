"""Equations 2 and 6: properties P1 to P4 and numbers T1 and T2 of the specification."""
import math

import pytest
import torch

from mmkd_plugin.dfa.aggregation import (
    ABLATIONS,
    ablation_weights,
    aggregate,
    aggregation_weights,
    every_kth,
    seed_of_group,
)
from mmkd_plugin.taps.shapes import resize


def maps(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_T1_weights_and_aggregation():
    alpha = aggregation_weights(torch.tensor([math.log(1), math.log(2), math.log(4)], dtype=torch.float64))
    torch.testing.assert_close(alpha, torch.tensor([1, 2, 4], dtype=torch.float64) / 7)
    total = aggregate([torch.full((1, 2, 3, 3), value) for value in (7., 14., 28.)], alpha.float())
    torch.testing.assert_close(total, torch.full((1, 2, 3, 3), 21.))


def test_T2_equal_betas_give_the_mean():
    features = maps(3)
    alpha = aggregation_weights(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(aggregate(features, alpha), torch.stack(features).mean(0))


def test_P1_weights_are_a_simplex_and_do_not_see_a_constant():
    beta = torch.randn(7, dtype=torch.float64) * 5
    alpha = aggregation_weights(beta)
    assert (alpha > 0).all()
    assert float(alpha.sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(aggregation_weights(beta + 11.5), alpha)


def test_P2_the_aggregation_lies_between_its_layers():
    features = maps()
    total = aggregate(features, aggregation_weights(torch.randn(4)))
    stacked = torch.stack(features).float()
    assert (total >= stacked.amin(0) - 1e-6).all()
    assert (total <= stacked.amax(0) + 1e-6).all()


def test_P2_equal_layers_give_that_layer_and_no_gradient():
    feature = maps(1)[0].float()
    beta = torch.randn(3, requires_grad=True)
    total = aggregate([feature] * 3, aggregation_weights(beta))
    torch.testing.assert_close(total, feature)
    gradient, = torch.autograd.grad(total.square().sum(), beta)
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-4, rtol=0)


def test_P3_the_gradient_of_beta_is_that_of_the_formula_and_sums_to_zero():
    features = [feature.float() for feature in maps()]
    beta = torch.randn(4, requires_grad=True)
    alpha = aggregation_weights(beta)
    total = aggregate(features, alpha)
    slope, gradient = torch.autograd.grad((total ** 3).sum(), [total, beta])
    expected = torch.stack([weight * (slope * (feature - total)).sum() for weight, feature in zip(alpha, features)])
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-3 * float(gradient.abs().max()))


def test_P4_one_layer_has_weight_one_and_no_gradient():
    beta = torch.tensor([3.], requires_grad=True)
    alpha = aggregation_weights(beta)
    gradient, = torch.autograd.grad(aggregate(maps(1), alpha).square().sum(), beta)
    assert alpha.item() == 1
    assert gradient.item() == 0


def test_resizing_commutes_with_the_sum():
    features, alpha = [feature.float() for feature in maps()], aggregation_weights(torch.randn(4))
    resized_first = aggregate([resize(feature, (6, 5), 'bilinear') for feature in features], alpha)
    torch.testing.assert_close(resize(aggregate(features, alpha), (6, 5), 'bilinear'), resized_first)


def test_ablations():
    assert ablation_weights('last', 4) == [0, 0, 0, 1]
    assert ablation_weights('average', 4) == [.25] * 4
    random = ablation_weights('random', 4, seed=3)
    assert random == ablation_weights('random', 4, seed=3) != ablation_weights('random', 4, seed=4)
    assert len({seed_of_group(seed, group) for seed in range(3) for group in range(3)}) == 9
    assert sum(random) == pytest.approx(1)
    assert set(ABLATIONS) == {'last', 'average', 'random'}


def test_every_kth_block_is_counted_from_the_last():
    assert every_kth(23, 4) == [2, 6, 10, 14, 18, 22]
    assert every_kth(3, 1) == [0, 1, 2]
    assert every_kth(3, 5) == [2]
