"""What is more than noise: standard errors, rankings, entropy, and windows of gradients, against plain formulas."""
import itertools
import math

import pytest
import torch

from mmkd_plugin.distpro.significance import (
    RECENT,
    Evidence,
    doubts,
    kendall_tau,
    mean_tau,
    relative_entropy,
    significance,
)
from mmkd_plugin.utils.errors import DistillationError


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_significance_is_the_mean_over_its_standard_error():
    samples = torch.tensor([[1., 5], [2, 5], [3, 5]], dtype=torch.float64)
    assert significance(samples).tolist() == pytest.approx([2 / (1 / math.sqrt(3)), 0])
    assert significance(samples[:1]).tolist() == [0, 0]
    many = noise(50, 3) + torch.tensor([0, 1, -2])
    for column, found in zip(many.T.tolist(), significance(many).tolist()):
        mean = sum(column) / 50
        error = math.sqrt(sum((value - mean) ** 2 for value in column) / 49 / 50)
        assert found == pytest.approx(mean / error, rel=1e-12)


def test_kendalls_tau():
    assert kendall_tau([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([12, 2, 1, 12, 2], [1, 4, 7, 1, 0]) == pytest.approx(-.47140452079)  # with ties; scipy.stats
    assert kendall_tau([1, 1, 1], [1, 2, 3]) == 0
    assert mean_tau([[1, 2, 3], [1, 2, 3], [3, 2, 1]]) == pytest.approx(-1 / 3)


def test_two_rankings_of_noise_agree_by_chance_only():
    orders = list(itertools.permutations(range(4)))
    assert sum(kendall_tau(range(4), order) for order in orders) == pytest.approx(0)


def test_the_entropy_is_1_where_all_are_equal_and_0_where_one_has_all():
    assert relative_entropy([.2, .2, .2]) == pytest.approx(1)
    assert relative_entropy([0, 3, 0]) == 0
    assert relative_entropy([2, 1, 1]) == pytest.approx(1.5 * math.log(2) / math.log(3))
    assert relative_entropy([7]) == relative_entropy([0, 0]) == 1


def seen(gradients, window=5):
    evidence = Evidence(gradients.shape[1], window)
    return evidence, [evidence.add(gradient) for gradient in gradients]


def test_every_window_is_seen_once_when_it_is_full():
    gradients = noise(12, 3)
    evidence, found = seen(gradients)
    assert [number for number, one in enumerate(found) if one] == [4, 9]
    for one, start in ((found[4], 0), (found[9], 5)):
        torch.testing.assert_close(one.mean, gradients[start:start + 5].mean(0))
        torch.testing.assert_close(one.significance, significance(gradients[start:start + 5]))
    both = (found[4].significance + found[9].significance) / math.sqrt(2)
    assert evidence.overall == pytest.approx((-both).tolist())
    assert evidence.agreement == pytest.approx(kendall_tau(found[4].significance.tolist(), found[9].significance.tolist()))


def test_what_is_there_is_found_and_agreed_on():
    # Three members that help by different amounts, each step with ten times as much noise.
    gradients = noise(2000, 4) - torch.tensor([.3, .1, 0, -.2])
    evidence, _ = seen(gradients, 10)
    assert sorted(range(4), key=lambda member: -evidence.overall[member]) == [0, 1, 2, 3]
    assert evidence.overall[0] > 8 > 2 > abs(evidence.overall[2])
    assert evidence.overall[3] < -4
    assert evidence.agreement == 1
    assert doubts(evidence.agreement, .9) == []


def test_where_nothing_is_there_the_halves_do_not_agree():
    found = [seen(noise(200, 5, seed=seed), 10)[0] for seed in range(40)]
    assert abs(sum(one.agreement for one in found) / 40) < .2
    assert max(abs(value) for one in found[:10] for value in one.overall) < 4


def test_the_last_windows_are_those_that_the_recent_agreement_is_of():
    gradients = torch.cat([-noise(80, 4, seed=1), noise(8 * 10, 4) * 1e-3 - torch.tensor([3., 2, 1, 0])])
    evidence, _ = seen(gradients, 10)
    assert evidence.windows == 16
    assert evidence.recent_agreement == 1


def test_before_two_windows_nothing_is_known_of_the_agreement():
    evidence, _ = seen(noise(9, 3))
    assert (evidence.agreement, evidence.recent_agreement) == (None, None)
    assert doubts(None, 1.) == []


@pytest.mark.parametrize('cut', [3, 5, 57])
def test_evidence_goes_on_where_it_was(cut):
    gradients = noise(60, 3)
    whole, _ = seen(gradients)
    first, _ = seen(gradients[:cut])
    second = Evidence(3, 5)
    second.check(first.state(), cut)
    second.load(first.state())
    for gradient in gradients[cut:]:
        second.add(gradient)
    assert (second.overall, second.agreement) == (whole.overall, whole.agreement)
    assert second.recent_agreement == whole.recent_agreement


@pytest.mark.parametrize(('change', 'path'), [
    (dict(windows=3), 'windows'), (dict(samples=[]), 'samples'), (dict(samples=[torch.ones(2)] * 2), 'samples'),
    (dict(recent=[[0., 0., 0.]] * (RECENT + 1)), 'recent'), (dict(halves=[[0., 0., 0.]]), 'halves'),
    (dict(halves=[[0., 0., math.nan]] * 2), 'halves'), (dict(more=1), 'more')], ids=str)
def test_a_state_that_cannot_be_is_named(change, path):
    evidence, _ = seen(noise(12, 3))
    with pytest.raises(DistillationError, match=path):
        evidence.check({**evidence.state(), **change}, 12)


def test_what_hangs_on_the_seed_is_said():
    ranking, = doubts(.2, .9)
    assert 'agrees by a Kendall tau of 0.20' in ranking
    one, = doubts(.9, .3)
    assert 'relative entropy 0.30' in one
    assert len(doubts(-.1, .1)) == 2
