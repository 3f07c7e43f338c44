"""From importance to weights, and how a validation loss depends on it; numbers T1, T3, T4 and T6 of the specification."""
import pytest
import torch

from mmkd_plugin.distpro.hypergradient import exact_derivatives, finite_difference_derivatives
from mmkd_plugin.distpro.weights import NORMALISATIONS, importance_gradient, live_pathways


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(('importance', 'expected'), [
    ((0, 1, 2), (0.0723294881, 0.1966119332, 0.5344466454)), ((1, 1, 1), (.25, .25, .25))])
def test_T1_biased_softmax(importance, expected):
    torch.testing.assert_close(NORMALISATIONS['biased_softmax'](doubles(*importance)), doubles(*expected), rtol=1e-8, atol=0)


def test_every_normalisation_is_its_formula():
    a = doubles(0.5, -1, 2)
    exp = a.exp()
    expected = dict(biased_softmax=exp / (exp.sum() + torch.tensor(3.).double().exp()), softmax=exp / exp.sum(),
                    biased_l1=a.abs() / 6.5, l1=a.abs() / 3.5, sigmoid=1 / (1 + (-a).exp()))
    assert set(NORMALISATIONS) == set(expected)
    for name, normalise in NORMALISATIONS.items():
        torch.testing.assert_close(normalise(a, 3.0), expected[name])


@pytest.mark.parametrize('name', list(NORMALISATIONS))
@pytest.mark.parametrize('importance', [(0.5, -1, 2), (-3, -2, -1), (0, 0, 0)], ids=['mixed', 'negative', 'zero'])
def test_no_weight_is_negative_or_not_finite(name, importance):
    weights = NORMALISATIONS[name](doubles(*importance), 0.0)
    assert bool((weights >= 0).all())
    assert float(weights.sum()) <= 3
    assert bool(importance_gradient(doubles(*importance), doubles(1, 2, 3), name, 0.0).isfinite().all())


def test_T3_a_pathway_that_pulls_towards_validation_is_raised():
    importance, rate = doubles(1, 1), .1
    v = doubles(-2)
    derivatives = exact_derivatives(lambda point: [(point['x'][0] - 1) ** 2 / 2, (point['x'][0] + 1) ** 2 / 2],
                                    dict(x=doubles(0)), dict(x=v))
    assert derivatives.tolist() == [2, -2]
    gradient = importance_gradient(importance, derivatives, 'biased_softmax', 1, rate)
    torch.testing.assert_close(gradient, doubles(-0.0666666667, 0.0666666667), rtol=1e-8, atol=0)


def test_T4_two_parameters():
    theta, importance, rate = doubles(.3, -.2), doubles(1, .5), .1

    def pathways(point):
        t0, t1 = point['theta']
        return [(t0 - 1) ** 2 + t1 ** 4 / 2, t0.sin() + (t1 + 1) ** 2]

    def step(importance):
        weights = NORMALISATIONS['biased_softmax'](importance)
        point = theta.clone().requires_grad_()
        loss = point.square().sum() / 2 + sum(w * loss for w, loss in zip(weights, pathways(dict(theta=point))))
        return theta - rate * torch.autograd.grad(loss, point, create_graph=True)[0]

    searched = importance.clone().requires_grad_()
    moved = step(searched)
    validation = (moved - 1).square().sum()
    brute, = torch.autograd.grad(validation, searched)
    torch.testing.assert_close(moved.detach(), doubles(0.3014808930, -0.2166176032), rtol=1e-8, atol=0)
    assert validation.item() == pytest.approx(1.9680873353, rel=1e-9)

    v = 2 * (moved.detach() - 1)
    torch.testing.assert_close(v, doubles(-1.3970382140, -2.4332352065), rtol=1e-8, atol=0)
    assert (.01 / v.norm()).item() == pytest.approx(0.0035640831, rel=1e-7)
    point, direction = dict(theta=theta), dict(theta=v)
    exact = importance_gradient(importance, exact_derivatives(pathways, point, direction), 'biased_softmax', 1, rate)
    torch.testing.assert_close(exact, doubles(-0.0938403530, 0.1111504240), rtol=1e-8, atol=0)
    torch.testing.assert_close(exact, brute, rtol=1e-12, atol=0)
    differences = finite_difference_derivatives(pathways, point, direction)
    found = importance_gradient(importance, differences, 'biased_softmax', 1, rate)
    torch.testing.assert_close(found, doubles(-0.0938420346, 0.1111509790), rtol=1e-8, atol=0)


@pytest.mark.parametrize('name', ['biased_softmax', 'softmax'])
def test_the_gradient_of_a_softmax_is_its_closed_form(name):
    importance, derivatives = torch.randn(5).double(), torch.randn(5).double()
    weights = NORMALISATIONS[name](importance)
    expected = -.3 * weights * (derivatives - (weights * derivatives).sum())
    torch.testing.assert_close(importance_gradient(importance, derivatives, name, 1, .3), expected)


@pytest.mark.parametrize('name', list(NORMALISATIONS))
def test_the_gradient_of_every_normalisation_is_its_jacobians(name):
    importance, derivatives = torch.rand(4).double() + .1, torch.randn(4).double()
    jacobian = torch.autograd.functional.jacobian(lambda a: NORMALISATIONS[name](a, 1.), importance)
    torch.testing.assert_close(importance_gradient(importance, derivatives, name, 1, .3), -.3 * derivatives @ jacobian)


def test_T6_the_bias_lets_all_pathways_grow_or_fade_together():
    a = torch.randn(4).double()
    biased, plain = NORMALISATIONS['biased_softmax'], NORMALISATIONS['softmax']
    assert biased(a).sum() < 1
    assert biased(a + 1).sum() > biased(a).sum()
    torch.testing.assert_close(plain(a + 1), plain(a))


def test_T6_better_alignment_raises_a_pathway_and_equal_alignment_moves_nothing():
    a = torch.randn(4).double()
    d = torch.ones(4).double()
    torch.testing.assert_close(importance_gradient(a, d, 'softmax'), torch.zeros(4).double(), rtol=0, atol=1e-15)
    aligned = d + torch.tensor([0, 1, 0, 0]).double()
    assert importance_gradient(a, aligned, 'softmax')[1] < 0  # descent raises it
    assert importance_gradient(a, aligned, 'biased_softmax')[1] < importance_gradient(a, d, 'biased_softmax')[1]


def test_pruning_drops_what_is_not_above_tau():
    assert live_pathways(doubles(.5, .51, 2), .5) == [1, 2]
    assert live_pathways(doubles(.5, .51, 2), None) == [0, 1, 2]
