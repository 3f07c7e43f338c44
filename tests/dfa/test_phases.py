"""Groups in sequence, as functions of the iteration."""
import pytest

from mmkd_plugin.dfa.phases import beta_steps_before, phase_at, phases_of
from mmkd_plugin.utils.errors import DistillationError

NAMES = {0: 'layer1', 2: 'layer3', 3: 'layer4'}


def test_the_run_is_divided_equally():
    phases = phases_of(NAMES, 11)
    assert [(phase.group, phase.begin, phase.end) for phase in phases] == [(0, 0, 3), (2, 3, 6), (3, 6, 11)]
    assert [phase_at(phases, iteration).group for iteration in range(11)] == [0, 0, 0, 2, 2, 2, 3, 3, 3, 3, 3]
    assert phase_at(phases, 11) is None


def test_lengths_can_be_given():
    assert [phase.end for phase in phases_of(NAMES, 9, 3)] == [3, 6, 9]
    assert [phase.end for phase in phases_of(NAMES, 9, [2, 3, 4])] == [2, 5, 9]


def test_weights_may_go_first():
    assert [phase.beta_begin for phase in phases_of(NAMES, 30, weights_first=.2)] == [2, 12, 22]


@pytest.mark.parametrize(('total', 'iterations', 'message'), [
    (10, 3, r'the phases take 9 iterations \(3 \+ 3 \+ 3 for layer1, layer3, layer4\), the run has 10'),
    (9, [4, 5],
     r'^iterations: has 2 numbers for 3 groups with more than one layer \(layer1, layer3, layer4\)'),
    (2, None, r'iterations: the run has 2 iterations \(train_cfg\) for 3 groups to search \(layer1, layer3, layer4\)')])
def test_what_does_not_fit_the_run_is_refused(total, iterations, message):
    with pytest.raises(DistillationError, match=message):
        phases_of(NAMES, total, iterations)


def test_steps_of_beta_are_counted():
    phases = phases_of(NAMES, 15, weights_first=.4)
    taken = [phase_at(phases, iteration).beta_begin <= iteration for iteration in range(15)]
    assert [beta_steps_before(phases, iteration) for iteration in range(16)] == [sum(taken[:number]) for number in range(16)]
