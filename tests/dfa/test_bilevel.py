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


def test_the_virtual_step_is_the_one_that_SGD_takes():
    weight = torch.randn(3, requires_grad=True)
    frozen = torch.zeros(1)
    optimiser = torch.optim.SGD([weight, frozen], lr=.1, momentum=.9, weight_decay=.01)
    for _ in range(2):
        weight.grad = torch.randn(3)
        optimiser.step()
    step, = virtual_steps(optimiser)
    slope = torch.randn(3)
    expected = weight.detach() - .1 * (.9 * step.buffer + slope + .01 * weight.detach())
    weight.grad = slope.clone()
    optimiser.step()
    torch.testing.assert_close(weight.detach(), expected)
