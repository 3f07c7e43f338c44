"""Options as data: one check for a kind of value, and the table of the documentation from the same fields."""
import math
from dataclasses import dataclass
from typing import Any, List, Optional, Union

import pytest

from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.options import Block, Choice, Either, Flag, ListOf, Number, Options, Text, option, reference_table


@dataclass(frozen=True, kw_only=True)
class Example(Options):
    renamed = dict(temprature='Write temperature=...')
    tap: str = option(Text('the address of a tap'), doc='what is tapped')
    temperature: float = option(Number(above=0), 1.0, 'T')
    mode: str = option(Choice(('sum', 'mean')), 'mean', 'how | it is reduced')
    scale: Union[float, str] = option(Either(Number(above=0), ('auto',)), 1.0)
    weights: Optional[List[float]] = option(Either(ListOf(Number(least=0), 'numbers >= 0'), (None,)), None)
    optimizer: Any = option(Block("a config, e.g. dict(type='Adam')", needs=('type',)), dict(type='Adam'))

    def check(self, given):
        if self.mode == 'sum' and 'scale' not in given:
            raise DistillationError('is missing', path='scale')


def refused(message, **given):
    with pytest.raises(DistillationError, match=message) as caught:
        Example.read(dict(tap='x', **given))
    return caught.value


def test_defaults_and_values_are_read():
    read = Example.read(dict(tap='backbone', weights=(1, 2)))
    assert (read.tap, read.temperature, read.weights, read.optimizer) == ('backbone', 1.0, [1, 2], dict(type='Adam'))


@pytest.mark.parametrize('value', ['1', None, True, math.nan, math.inf, 0, -1, [1]])
def test_a_number_is_a_finite_number_within_its_bounds(value):
    assert refused(r'temperature: .*\. Accepted: a number > 0', temperature=value).path == 'temperature'


@pytest.mark.parametrize('value', [1.5, '3', True, math.inf])
def test_a_whole_number_is_whole(value):
    assert not Number(whole=True).fits(value)
    assert Number(whole=True).fits(3)


@pytest.mark.parametrize('value', ['False', 'no', 1, 0, None, [True]])
def test_a_flag_is_not_what_python_takes_for_one(value):
    assert not Flag().fits(value)


@pytest.mark.parametrize('value', ['max', 3, ['sum'], None])
def test_a_choice_is_one_of_the_names(value):
    assert refused('mode: .*Accepted: sum, mean', mode=value).path == 'mode'


def test_the_nearest_name_is_said():
    assert refused('scale', scale='Auto').nearest == ('auto',)
    assert "Did you mean 'mean'?" in str(refused('mode', mode='maen'))
    assert "Did you mean 'temperature'?" in str(refused('temperatur', temperatur=1))


def test_one_of_two_kinds_says_both():
    refused("scale: 0. Accepted: a number > 0, or 'auto'", scale=0)
    refused('weights: .*Accepted: a list of numbers >= 0, or None', weights=[1, -1])
    refused("optimizer: .*dict\\(type='Adam'\\)", optimizer=dict(lr=1))


def test_what_is_missing_is_named_with_what_is_accepted():
    with pytest.raises(DistillationError, match='tap: is missing. Accepted: the address of a tap'):
        Example.read({})


def test_options_that_do_not_fit_together_and_keys_of_former_versions_are_named():
    refused('scale: is missing', mode='sum')
    refused("temprature: 'temprature' is no key here.*Write temperature", temprature=2)


def test_a_default_is_not_shared():
    Example.read(dict(tap='x')).optimizer['lr'] = 3
    assert Example.read(dict(tap='x')).optimizer == dict(type='Adam')


def test_the_reference_table_has_a_row_for_each_option():
    rows = reference_table(Example, leave_out=['weights']).splitlines()
    assert rows[2] == '| `tap` | the address of a tap | (required) | what is tapped |'
    assert rows[4] == "| `mode` | 'sum', 'mean' | `'mean'` | how \\| it is reduced |"
    assert len(rows) == 2 + 5
