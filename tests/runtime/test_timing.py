"""Times in turn, on a clock that the test turns on itself, and the rule that chooses by them."""
import math
import random

import pytest

from mmkd_plugin.runtime import Timings, choose, interleaved


class Clock:
    """Goes on only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        def call():
            self.now += seconds
        return call


def test_each_call_is_timed_in_every_round_without_warm_up_and_preparation():
    clock, prepared = Clock(), []

    def prepare(name):
        prepared.append(name)
        clock.now += 100

    timings = interleaved(dict(plain=clock.work(2.), fast=clock.work(1.)), rounds=3, warmup=2, prepare=prepare, clock=clock)
    assert timings.seconds == dict(plain=[2., 2., 2.], fast=[1., 1., 1.])
    assert (timings.rounds, timings.median('fast'), timings.ratio('fast', 'plain')) == (3, 1., .5)
    there_and_back = ['plain', 'fast', 'fast', 'plain']
    assert prepared == [*there_and_back, *there_and_back, 'plain', 'fast']


def test_no_round_begins_that_the_limit_has_no_room_for():
    calls = []
    timings = interleaved(dict(plain=lambda: calls.append(1)), rounds=50, warmup=1, limit=0.)
    assert len(calls) == 1, 'the first one always runs'
    assert timings.rounds == 0
    assert math.isnan(timings.median('plain'))
    assert math.isnan(timings.ratio('plain', 'plain'))


def timings_of(**seconds):
    return Timings(seconds, 0.)


@pytest.mark.parametrize(('chosen', 'seconds'), [
    ('fast', dict(plain=[1.] * 4, fast=[.9] * 4)),
    ('faster', dict(plain=[1.] * 4, fast=[.9] * 4, faster=[.8] * 4)),
    ('plain', dict(plain=[1.] * 4, fast=[.985] * 4)),
    ('plain', dict(plain=[1.] * 4, slow=[1.1] * 4)),
    ('plain', dict(plain=[1.] * 2, fast=[.5] * 2)),
    ('plain', dict(plain=[1.] * 6, unsteady=[.5, .5, .5, .5, 1.5, 1.5])),
    # The machine is busy in two rounds: only ratios within a round tell.
    ('fast', dict(plain=[1., 5., 1., 5.], fast=[.9, 4.5, .9, 4.5]))],
    ids=['fast', 'fastest', 'within-the-margin', 'slow', 'too-few-rounds', 'not-in-most-rounds', 'busy-machine'])
def test_only_what_is_surely_faster_is_chosen(chosen, seconds):
    assert choose(timings_of(**seconds), 'plain') == chosen


def test_what_may_not_be_chosen_is_passed_over():
    timings = timings_of(plain=[1.] * 4, fast=[.9] * 4, wrong=[.1] * 4)
    assert choose(timings, 'plain', among=['fast']) == 'fast'
    assert choose(timings, 'plain', among=[]) == 'plain'


def test_an_equal_way_is_hardly_ever_chosen_by_noise():
    chance, chosen = random.Random(0), []
    for _ in range(500):
        noisy = {name: [math.exp(chance.gauss(0, .01)) for _ in range(8)] for name in ('plain', 'other')}
        chosen.append(choose(timings_of(**noisy), 'plain'))
    assert chosen.count('other') <= 5
