"""Numbers T1-T4, T9-T15, T20 of the specification, and brute force."""
import itertools

import pytest
import torch

from mmkd_plugin.mgd.matching import (
    assign,
    assign_groups,
    assign_shared,
    assign_single,
    assignment_cost,
    cost_matrix,
    similarity_sum,
)
from mmkd_plugin.utils.errors import DistillationError


def toy_features():
    student = torch.tensor([[1., 0], [0, 1]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[2., 0], [0, 3], [1, 1], [-1, 0]]).view(1, 4, 1, 2)
    return student, teacher


def cost_of(student, teacher):
    return cost_matrix(similarity_sum(student, teacher), len(student))


def as_sets(assignment):
    return [set(row) for row in assignment.tolist()]


def random_cost(channels_s, channels_t, seed):
    return torch.rand(channels_s, channels_t, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4


def test_T1_cost_of_the_toy_example():
    torch.testing.assert_close(cost_of(*toy_features()), torch.tensor([[0, 2, .585786, 4], [2, 0, .585786, 2]]))


def test_T2_groups_of_the_toy_example():
    cost = cost_of(*toy_features())
    assignment = assign_groups(cost)
    assert assignment.shape == (2, 2)
    assert as_sets(assignment) == [{0, 2}, {1, 3}]
    assert assignment_cost(cost, assignment) == pytest.approx(2.585786, abs=1e-5)


def test_T3_sparse_matching_of_the_toy_example():
    cost = cost_of(*toy_features())
    assert assign_single(cost).tolist() == [[0], [1]]
    assert assignment_cost(cost, assign_single(cost)) == pytest.approx(0, abs=1e-6)


def test_T4_mean_of_cosines_not_cosine_of_concatenation():
    student = torch.tensor([[1., 0], [10, 0]]).view(2, 1, 1, 2)
    teacher = torch.tensor([[[1., 0], [1, 0]], [[0, 10], [10, 0]]]).view(2, 2, 1, 2)
    expected = torch.tensor([[1., 0]])
    torch.testing.assert_close(cost_of(student, teacher), expected)
    in_two_batches = similarity_sum(student[:1], teacher[:1]) + similarity_sum(student[1:], teacher[1:])
    torch.testing.assert_close(cost_matrix(in_two_batches, 2), expected)


def test_T9_activation_hides_differences():
    student = torch.tensor([1., -1]).view(1, 1, 1, 2)
    teacher = torch.tensor([[1., -1], [1, 0]]).view(1, 2, 1, 2)
    torch.testing.assert_close(cost_of(student, teacher), torch.tensor([[0, .585786]]))
    torch.testing.assert_close(cost_of(student.relu(), teacher.relu()), torch.tensor([[0., 0]]))


def test_T10_optimal_not_greedy():
    cost = torch.tensor([[.1, .2], [.2, 1.]])
    assert assign_groups(cost).tolist() == [[1], [0]]
    assert assignment_cost(cost, assign_groups(cost)) == pytest.approx(.4)


@pytest.mark.parametrize('noise', [0., .5])
def test_T11_recovers_a_permutation(noise):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 6, 5, 5, generator=generator)
    owners = torch.arange(6).repeat(3)[torch.randperm(18, generator=generator)]
    teacher = student[:, owners] * (torch.rand(18, generator=generator) + .5).view(1, -1, 1, 1)
    teacher = teacher + noise * teacher.std() * torch.randn(teacher.shape, generator=generator)
    cost = cost_of(student, teacher)
    assignment = assign_groups(cost)
    assert as_sets(assignment) == [set((owners == j).nonzero().flatten().tolist()) for j in range(6)]
    if not noise:
        assert assignment_cost(cost, assignment) == pytest.approx(0, abs=1e-4)


def test_T12_surplus_channels_are_shaved_or_selected():
    cost = random_cost(3, 7, seed=1)
    shaved, selected = assign_groups(cost, 'shave'), assign_groups(cost, 'select')
    assert sorted(shaved.flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    assert len(set(selected.flatten().tolist())) == 6
    assert assignment_cost(cost, selected) <= assignment_cost(cost, shaved) + 1e-12
    cost[:, 6] = 4  # the surplus channel is the worst: both agree
    assert assignment_cost(cost, assign_groups(cost, 'select')) == pytest.approx(
        assignment_cost(cost, assign_groups(cost, 'shave')))


def test_T13_properties_of_the_cost():
    student, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    cost = cost_of(student, teacher)
    assert cost.min() >= 0
    assert cost.max() <= 4
    silent = teacher.clone()
    silent[:, 2] = 0
    torch.testing.assert_close(cost_of(student, silent)[:, 2], torch.full((4,), 2.))
    negated = teacher.clone()
    negated[:, 1] *= -1
    torch.testing.assert_close(cost_of(student, negated)[:, 1], 4 - cost[:, 1])
    scaled = teacher * (torch.rand(3, 6, 1, 1) + .1)  # by another factor in every sample
    torch.testing.assert_close(cost_of(student, scaled), cost)


def test_T14_equal_widths_give_a_permutation():
    student = torch.randn(2, 8, 4, 4)
    order = torch.randperm(8)
    cost = cost_of(student, student[:, order])
    for assignment in (assign_groups(cost), assign_single(cost)):
        assert assignment.shape == (8, 1)
        assert order[assignment.flatten()].tolist() == list(range(8))


@pytest.mark.parametrize(('channels_s', 'channels_t'), [(4, 8), (5, 15), (6, 6)])
def test_T15_every_teacher_channel_once_and_no_valid_matching_is_cheaper(channels_s, channels_t):
    cost = random_cost(channels_s, channels_t, seed=2)
    assignment = assign_groups(cost)
    assert sorted(assignment.flatten().tolist()) == list(range(channels_t))
    best = assignment_cost(cost, assignment)
    for _ in range(200):
        other = torch.randperm(channels_t).view(channels_s, -1)
        assert best <= assignment_cost(cost, other) + 1e-12


def test_T20_impossible_widths_and_sizes_are_refused():
    with pytest.raises(DistillationError, match=r'more channels \(3\) than the teacher \(2\)'):
        assign_groups(torch.rand(3, 2))
    with pytest.raises(DistillationError, match=r'more channels \(3\) than the teacher \(2\)'):
        assign_single(torch.rand(3, 2))
    with pytest.raises(DistillationError, match='height and width must be equal'):
        similarity_sum(torch.rand(1, 2, 4, 4), torch.rand(1, 2, 2, 2))


@pytest.mark.parametrize('seed', range(10))
def test_brute_force_finds_nothing_better(seed):
    # Every way of giving the teacher channels to the copies of the student channels, tried out.
    for channels_s, channels_t in ((3, 3), (2, 4), (3, 6), (2, 5), (1, 5)):
        cost = random_cost(channels_s, channels_t, seed)
        group = channels_t // channels_s
        for surplus, columns in (('shave', group * channels_s), ('select', channels_t)):
            best = min(sum(cost[row % channels_s, column].item() for row, column in enumerate(columns_chosen))
                       for columns_chosen in itertools.permutations(range(columns), group * channels_s))
            assert assignment_cost(cost, assign_groups(cost, surplus)) == pytest.approx(best, abs=1e-12)
        best = min(sum(cost[row, column].item() for row, column in enumerate(chosen))
                   for chosen in itertools.permutations(range(channels_t), channels_s))
        assert assignment_cost(cost, assign_single(cost)) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(('channels_s', 'channels_t'), [(4, 2), (5, 2), (5, 3), (3, 1)])
def test_wider_student_shares_teacher_channels(channels_s, channels_t):
    cost = random_cost(channels_s, channels_t, seed=3)
    assignment = assign_shared(cost)
    limit = -(-channels_s // channels_t)
    assert assignment.shape == (channels_s, 1)
    assert assignment.flatten().bincount().max() <= limit
    best = min(sum(cost[row, column].item() for row, column in enumerate(chosen))
               for chosen in itertools.product(range(channels_t), repeat=channels_s)
               if max(chosen.count(column) for column in range(channels_t)) <= limit)
    assert assignment_cost(cost, assignment) == pytest.approx(best, abs=1e-12)


def test_assign_picks_the_problem_that_fits():
    assert assign(random_cost(2, 6, 4)).shape == (2, 3)
    assert assign(random_cost(2, 6, 4), single=True).shape == (2, 1)
    assert assign(random_cost(6, 2, 4)).shape == (6, 1)
