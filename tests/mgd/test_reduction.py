"""Numbers T3, T12, T14, T16 of the specification."""
import pytest
import torch

from mmkd_plugin.mgd.reduction import REDUCERS, absolute_max, gather_groups, random_drop, signed_max, simple_max

TEACHER = torch.tensor([[2., 0], [0, 3], [1, 1], [-1, 0]]).view(1, 4, 1, 2)
MARGINS = torch.tensor([-.5, -.4, -.3, -.2])
GROUPS = torch.tensor([[0, 2], [1, 3]])


def reduce_toy(reducer, **kwargs):
    target, margin = reducer(gather_groups(TEACHER, GROUPS), MARGINS[GROUPS], **kwargs)
    return target.view(2, 2), margin


def test_groups_are_students_first():
    grouped = gather_groups(TEACHER, GROUPS)
    assert grouped.shape == (1, 2, 2, 1, 2)
    assert grouped[0, 0, 1].flatten().tolist() == [1, 1]
    assert grouped[0, 1, 0].flatten().tolist() == [0, 3]


@pytest.mark.parametrize(('reducer', 'target', 'margin'), [
    (absolute_max, [[2, 1], [-1, 3]], [-.4, -.3]),
    (signed_max, [[2, 1], [0, 3]], [-.4, -.3]),
    (simple_max, [[2, 1], [0, 3]], [-.3, -.2]),
])
def test_T3_targets_and_margins_of_the_toy_example(reducer, target, margin):
    result, result_margin = reduce_toy(reducer)
    torch.testing.assert_close(result, torch.tensor(target, dtype=torch.float))
    torch.testing.assert_close(result_margin, torch.tensor(margin))


@pytest.mark.parametrize('per_channel', [False, True])
def test_T3_random_drop_draws_from_the_group_with_the_right_mean(per_channel):
    allowed = [{2., 1.}, {0., 1.}, {0., -1.}, {3., 0.}]
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([reduce_toy(random_drop, generator=generator, per_channel=per_channel)[0].flatten()
                         for _ in range(4000)])
    for position, values in enumerate(allowed):
        assert set(draws[:, position].tolist()) == values
    torch.testing.assert_close(draws.mean(0), torch.tensor([1.5, .5, -.5, 1.5]), atol=.06, rtol=0)


def test_random_drop_draws_for_every_position_or_for_whole_channels():
    teacher = torch.arange(2.).view(1, 2, 1, 1).expand(1, 2, 16, 16)
    grouped = gather_groups(teacher, torch.tensor([[0, 1]]))
    margins = torch.zeros(1, 2)
    by_position, _ = random_drop(grouped, margins, torch.Generator().manual_seed(0))
    whole, _ = random_drop(grouped, margins, torch.Generator().manual_seed(0), per_channel=True)
    assert set(by_position.flatten().tolist()) == {0., 1.}
    assert len(set(whole.flatten().tolist())) == 1


def test_T16_absolute_max_keeps_the_largest_magnitude_and_its_sign():
    grouped, margins = torch.randn(2, 3, 4, 5, 5), torch.zeros(3, 4)
    target, _ = absolute_max(grouped, margins)
    assert (target.abs().unsqueeze(2) >= grouped.abs()).all()
    assert (target.unsqueeze(2) == grouped).any(2).all()
    torch.testing.assert_close(absolute_max(-grouped, margins)[0], -target)
    torch.testing.assert_close(absolute_max(grouped[:, :, [2, 0, 3, 1]], margins)[0], target)
    assert not torch.equal(signed_max(-grouped, margins)[0], -signed_max(grouped, margins)[0])


def test_T14_all_reducers_agree_on_a_group_of_one():
    teacher, margins = torch.randn(2, 5, 3, 3), torch.randn(5)
    assignment = torch.randperm(5).view(5, 1)
    for reducer in REDUCERS.values():
        target, margin = reducer(gather_groups(teacher, assignment), margins[assignment])
        torch.testing.assert_close(target, teacher[:, assignment.flatten()])
        torch.testing.assert_close(margin, margins[assignment.flatten()])


@pytest.mark.parametrize('reducer', REDUCERS)
def test_every_reducer_works_in_the_memory_format_of_the_map_and_gives_the_same_numbers(reducer):
    teacher, margins = torch.randn(2, 12, 3, 5), torch.randn(12)
    assignment = torch.randperm(12).view(4, 3)[:, :1 if reducer == 'sparse' else 3]
    found = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        grouped = gather_groups(teacher.contiguous(memory_format=memory_format), assignment)
        assert torch.equal(grouped, teacher[:, assignment])
        target, _ = REDUCERS[reducer](grouped, margins[assignment], torch.Generator().manual_seed(0))
        assert target.is_contiguous(memory_format=memory_format)
        found.append(target)
    assert torch.equal(*found)


def test_absolute_max_takes_the_positive_one_of_two_that_are_as_large():
    teacher = torch.tensor([-2., 2, 0, -0.5]).view(1, 4, 1, 1)
    target, _ = absolute_max(gather_groups(teacher, torch.tensor([[0, 1], [3, 2]])), torch.zeros(2, 2))
    assert target.flatten().tolist() == [2, -0.5]
