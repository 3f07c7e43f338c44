"""First and second order: numbers T12 and T13 and property P18 of the specification."""
from dataclasses import replace

import pytest
import torch

from mmkd_plugin.dfa.bilevel import VirtualStep, _move, first_order_gradient, unrolled_gradient, virtual_steps


def scalar(value):
    return torch.tensor([float(value)], dtype=torch.float64, requires_grad=True)


def darts_toy(rate):
    a, w = scalar(2), scalar(-2)

    def val():
        return (a * w - 2 * a + 1).sum()

    def train():
        return (w ** 2 - 2 * a * w + a ** 2).sum()

    return val, train, a, w, [VirtualStep(w, rate)]


def test_T12_first_and_second_order():
    val, train, a, w, steps = darts_toy(.1)
    assert float(first_order_gradient(val(), a)) == pytest.approx(-4)
    assert float(unrolled_gradient(val, train, a, steps)) == pytest.approx(-2.8)
    scaled = unrolled_gradient(lambda: val() * 64, lambda: train() * 64, a, steps, 64.)
    assert float(scaled) == pytest.approx(-2.8)


@pytest.mark.parametrize('options', [dict(momentum=.9, nesterov=True, weight_decay=.1), dict(momentum=.9, dampening=.3)])
@pytest.mark.parametrize('before', [0, 2])
def test_the_virtual_step_is_the_optimisers(options, before):
    w = scalar(2)
    optimiser = torch.optim.SGD([w], lr=.1, **options)
    for slope in [3., -1., .5][:before + 1]:
        w.grad = torch.full_like(w, slope)
        steps, moved = virtual_steps(optimiser), w.detach().clone()
        _move(replace(steps[0], weight=moved), w.grad)
        optimiser.step()
    torch.testing.assert_close(moved, w.detach())


@pytest.mark.parametrize(('b', 'expected'), [(0, -.1), (.5, -.095)])
def test_T13_dependence_through_the_weights_only(b, expected):
    beta, w = scalar(b), scalar(0)

    def train():
        return ((w - beta) ** 2 / 2).sum()

    def val():
        return ((w - 1) ** 2 / 2).sum()

    assert float(first_order_gradient(val(), beta)) == 0
    assert float(unrolled_gradient(val, train, beta, [VirtualStep(w, .1)])) == pytest.approx(expected)


def test_P18_without_a_step_the_second_order_is_the_first():
    val, train, a, w, steps = darts_toy(0)
    assert torch.equal(unrolled_gradient(val, train, a, steps), first_order_gradient(val(), a))


def test_weights_come_back_bit_for_bit():
    val, train, a, w, steps = darts_toy(.1)
    before = w.detach().clone()
    unrolled_gradient(val, train, a, steps)
    assert torch.equal(w, before)
    assert w.grad is None
    assert a.grad is None

    def fails():
        raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError):
        unrolled_gradient(fails, train, a, steps)
    assert torch.equal(w, before)


@pytest.mark.parametrize('options', [{}, dict(weight_decay=.3), dict(momentum=.9), dict(momentum=.9, nesterov=True),
                                     dict(momentum=.9, dampening=.4)])
@pytest.mark.parametrize('steps_before', [0, 2])
def test_the_second_order_is_the_derivative_through_the_optimisers_step(options, steps_before):
    """By brute force: beta is moved, the optimiser takes its step, the validation loss is looked at."""
    start = torch.tensor([.5, -1., .3], dtype=torch.float64)

    def after_a_step(b, take=True):
        beta, w = scalar(b), start.clone().requires_grad_()
        optimiser = torch.optim.SGD([w], lr=.1, **options)

        def train():
            return ((w - beta * torch.tensor([1., 2., -1.])) ** 2 / 2).sum() + (w[0] * w[1] * beta).sum()

        def val():
            return ((w * torch.tensor([.2, 1., 2.])).sum() - beta).square().sum()

        for slope in (.3, -.2)[:steps_before]:
            w.grad = torch.full_like(w, slope)
            optimiser.step()
        w.grad = None
        if take:
            train().backward()
            optimiser.step()
            return float(val())
        return float(unrolled_gradient(val, train, beta, virtual_steps(optimiser)))

    expected = (after_a_step(.7 + 1e-5) - after_a_step(.7 - 1e-5)) / 2e-5
    assert after_a_step(.7, take=False) == pytest.approx(expected, rel=1e-6)


def test_a_gradient_that_has_overflown_moves_nothing():
    val, train, a, w, steps = darts_toy(.1)
    seen = []

    def watched():
        seen.append(float(w))
        return val()

    assert unrolled_gradient(watched, lambda: train() * float('inf'), a, steps).isnan().all()
    assert not seen


def test_what_is_frozen_has_no_step():
    weight, frozen = torch.zeros(3, requires_grad=True), torch.zeros(1)
    step, = virtual_steps(torch.optim.SGD([weight, frozen], lr=.1))
    assert step.weight is weight
