"""Distances between features; numbers T2 of the specification of DistPro."""
import pytest
import torch

from mmkd_plugin.losses import DISTANCES, find_distance, hcl, l1, l2
from mmkd_plugin.utils.errors import DistillationError


def checkerboard(side):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    return ((rows + columns) % 2 * 2. - 1)[None, None]


def ramp():
    return (torch.arange(64.) / 64).view(1, 1, 8, 8)


@pytest.mark.parametrize(('feature', 'expected'), [
    (checkerboard(8), 0.5333333333), (checkerboard(4), 0.5714285714), (torch.ones(2, 3, 8, 8), 1.0),
    (torch.ones(1, 1, 1, 1), 1.0), (torch.ones(1, 2, 3, 5), 1.0), (ramp(), 0.3163045247),
    (ramp()[..., :2, :2], 0.0075887044)])
def test_T2_hierarchical_context_loss(feature, expected):
    assert hcl(feature, torch.zeros_like(feature)).item() == pytest.approx(expected, rel=1e-6)


def test_plain_distances_are_means_over_all_elements():
    student, teacher = torch.tensor([[[[1., 3.]]]]), torch.tensor([[[[0., 5.]]]])
    assert l1(student, teacher).item() == 1.5
    assert l2(student, teacher).item() == 2.5


@pytest.mark.parametrize('name', ['hcl', 'l1', 'l2'])
def test_the_gradient_reaches_the_student_only(name):
    student, teacher = (torch.randn(1, 2, 4, 4, requires_grad=True) for _ in range(2))
    find_distance(name, 'distance')(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_an_unknown_distance_is_refused_by_key():
    with pytest.raises(DistillationError, match=r"model.distance: 'hlc' is not known. Did you mean 'hcl'\? Accepted: "):
        find_distance('hlc', 'model.distance')


def test_a_users_distance_is_found_by_name():
    DISTANCES.register_module(name='huber', module=torch.nn.functional.huber_loss, force=True)
    assert find_distance('huber', 'distance') is torch.nn.functional.huber_loss
