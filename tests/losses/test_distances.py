"""Distances between features; numbers T2 of the specification of DistPro."""
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from mmkd_plugin.losses import hcl, l1, l2


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


def hcl_by_definition(student, teacher, valid):
    """Both sides are pooled, at each level anew, over the cells that count."""
    total, weights = l2(student, teacher, valid), 1.
    for number, side in enumerate(side for side in (4, 2, 1) if side < student.shape[2]):
        share = adaptive_avg_pool2d(valid.double(), side)
        ours, theirs = (adaptive_avg_pool2d(feature * valid, side) / share.clamp(min=1e-9) for feature in (student, teacher))
        total = total + .5 ** (number + 1) * l2(ours, theirs, share > 0)
        weights += .5 ** (number + 1)
    return total / weights


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['plain', 'channels last'])
@pytest.mark.parametrize('size', [(32, 32), (8, 12), (6, 8), (7, 5), (12, 2), (4, 4), (3, 64), (1, 9)],
                         ids=lambda size: '{}x{}'.format(*size))
@pytest.mark.parametrize('masked', [False, True], ids=['whole', 'masked'])
def test_the_difference_pooled_step_by_step_is_both_sides_pooled_at_once(size, memory_format, masked):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, *size, dtype=torch.float64, generator=generator).to(memory_format=memory_format)
                        for _ in range(2))
    valid = torch.rand(2, 1, *size, generator=generator) < .3 if masked else torch.ones(2, 1, *size, dtype=torch.bool)
    student.requires_grad_()
    found, expected = hcl(student, teacher, valid if masked else None), hcl_by_definition(student, teacher, valid)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(value, student)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-15)


def test_plain_distances_are_means_over_all_elements():
    student, teacher = torch.tensor([[[[1., 3.]]]]), torch.tensor([[[[0., 5.]]]])
    assert l1(student, teacher).item() == 1.5
    assert l2(student, teacher).item() == 2.5


@pytest.mark.parametrize('distance', [l1, l2, hcl])
def test_the_gradient_reaches_the_student_only(distance):
    student, teacher = (torch.randn(1, 2, 4, 4, requires_grad=True) for _ in range(2))
    distance(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize('distance', [l1, l2, hcl])
def test_what_does_not_count_changes_nothing_and_gets_no_gradient(distance):
    student, teacher = torch.randn(2, 3, 8, 12, dtype=torch.float64), torch.randn(2, 3, 8, 12, dtype=torch.float64)
    valid = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
    valid[0, :, :5, :7] = valid[1, :, :, :3] = True
    other = torch.where(valid, student, 100.).requires_grad_()
    value = distance(other, teacher, valid)
    torch.testing.assert_close(value, distance(student, teacher, valid))
    value.backward()
    assert (other.grad.masked_select(~valid) == 0).all()
    assert (other.grad.masked_select(valid) != 0).all()


@pytest.mark.parametrize('distance', [l1, l2, hcl])
def test_where_everything_counts_the_mask_changes_nothing(distance):
    student, teacher = torch.randn(2, 3, 8, 12, dtype=torch.float64), torch.randn(2, 3, 8, 12, dtype=torch.float64)
    everything = torch.ones(2, 1, 8, 12, dtype=torch.bool)
    torch.testing.assert_close(distance(student, teacher, everything), distance(student, teacher, None))


def test_a_pooled_cell_is_the_mean_of_what_counts_in_it():
    """By hand: the left half counts; the 1x1 cell is its mean difference 2, the full resolution 4, weights 1 and 1/2."""
    student, teacher = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    student[..., :2], student[..., 2:] = 2., 50.
    valid = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    valid[..., :2] = True
    assert hcl(student, teacher, valid).item() == pytest.approx((4 + 4 / 2) / 1.5)
