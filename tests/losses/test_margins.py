"""Numbers T3, T5, T7, T17 of the specification."""
import pytest
import torch

from mmkd_plugin.losses import OFDLoss, halving_weights
from mmkd_plugin.losses.margins import partial_l2, partial_target
from mmkd_plugin.taps import TapInfo
from mmkd_plugin.utils.errors import DistillationError


def toy_loss(target, margin):
    source = torch.tensor([[1., 0], [0, 1]]).view(1, 2, 1, 2).requires_grad_()
    loss = partial_l2(source, torch.tensor(target).view(1, 2, 1, 2), torch.tensor(margin)).sum()
    loss.backward()
    return loss.item(), source.grad.flatten().tolist()


def test_T3_losses_of_the_toy_example():
    loss, gradient = toy_loss([[2., 1], [-1, 3]], [-.4, -.3])  # AMP
    assert loss == pytest.approx(6.09)
    assert gradient == pytest.approx([-2, -2, .6, -4])
    assert toy_loss([[2., 0], [0, 3]], [-.5, -.4])[0] == pytest.approx(5)  # SM
    assert toy_loss([[2., 1], [0, 3]], [-.4, -.3])[0] == pytest.approx(6)  # signed max
    assert toy_loss([[2., 1], [0, 3]], [-.3, -.2])[0] == pytest.approx(6)  # SP


def test_T5_stages_are_halved_towards_the_input():
    first, second = halving_weights(2)
    assert first * 6.09 + second * 6.09 == pytest.approx(9.135)
    assert halving_weights(1)[0] * 6.09 == pytest.approx(6.09)  # stage 0 ignored
    assert halving_weights(4) == [.125, .25, .5, 1]


@pytest.mark.parametrize(('student', 'teacher', 'loss'), [
    (-1, -.5, 0), (-.2, -.5, .09), (-1, -.9, 0), (.3, -.9, 1.21), (.3, 0, .09), (-.3, 0, 0), (-.3, .5, .64)])
def test_T7_partial_loss_of_single_values(student, teacher, loss):
    result = partial_l2(torch.full((1, 1, 1, 1), float(student)), torch.full((1, 1, 1, 1), float(teacher)),
                        torch.tensor([-.8]))
    assert result.item() == pytest.approx(loss, abs=1e-6)


def test_T17_loss_properties():
    target, margin = torch.randn(2, 4, 3, 3, requires_grad=True), -torch.rand(4)
    source = torch.randn(2, 4, 3, 3, requires_grad=True)
    loss = partial_l2(source, target, margin)
    assert (loss >= 0).all()
    loss.sum().backward()
    assert target.grad is None
    reached = torch.maximum(target.detach(), margin.view(1, -1, 1, 1))
    assert partial_l2(reached, target, margin).abs().sum() == 0


def test_gradient_agrees_with_finite_differences():
    target, margin = torch.randn(1, 3, 2, 2, dtype=torch.float64), -torch.rand(3, dtype=torch.float64)
    source = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: partial_l2(x, target, margin), source)


def test_shapes_that_differ_are_refused():
    with pytest.raises(DistillationError, match='differ'):
        partial_l2(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 2, 2), torch.zeros(2))


def test_a_margin_that_is_given_is_that_of_all_channels_and_no_batch_norm_is_asked_for():
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    loss = OFDLoss(margin=-1, divisor=10.0)
    tap = TapInfo('layer', 3, (4, 4), None, 0)
    loss.prepare(tap, tap)
    expected = partial_l2(student, teacher, torch.tensor([-1., -1, -1])).sum() / 2 / 10
    torch.testing.assert_close(loss(student, teacher), expected)
    assert expected != partial_l2(student, teacher, torch.tensor([-.5, -.5, -.5])).sum() / 2 / 10


def test_the_partial_target_is_what_the_cases_say_bit_for_bit():
    torch.manual_seed(0)
    student, teacher = 10 ** torch.randn(2, 2, 5, 16, 16) * torch.randn(2, 2, 5, 16, 16).sign()
    teacher[:, :, 0] = 0  # where y is 0 itself
    margin = -torch.rand(5)
    reached = torch.maximum(teacher, margin.view(1, -1, 1, 1))
    expected = torch.where((student > reached) | (reached > 0), reached, student)
    assert torch.equal(partial_target(student, teacher, margin), expected)
