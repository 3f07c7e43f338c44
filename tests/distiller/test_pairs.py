"""One way to say what is compared with what."""
import pytest

from mmkd_plugin.distiller.pairs import Pairs, ParsedPair, pair_names
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.options import Number


def test_an_address_a_pair_and_a_dict_say_the_same():
    for item in ('backbone.layer4', ('backbone.layer4', 'backbone.layer4'), ['backbone.layer4', 'backbone.layer4'],
                 dict(student='backbone.layer4', teacher='backbone.layer4')):
        assert Pairs().read([item]) == [ParsedPair('backbone.layer4', 'backbone.layer4')]


def test_a_list_of_the_teachers_taps_and_further_keys_only_where_a_distiller_has_them():
    several = Pairs(several=True, more=(('every', Number(above=0, whole=True)),))
    assert several.read([('a', ['b', 'c'])]) == [ParsedPair('a', ['b', 'c'])]
    assert several.read([dict(student='a', every=2)]) == [ParsedPair('a', 'a', dict(every=2))]
    with pytest.raises(DistillationError, match=r'\[0\].teacher: .*is not the address of a tap'):
        Pairs().read([('a', ['b', 'c'])])
    with pytest.raises(DistillationError, match=r"\[0\].every: 'every' is no key here"):
        Pairs().read([dict(student='a', teacher='b', every=2)])


@pytest.mark.parametrize(('given', 'path'), [
    ([('a', 'b'), ('a', 'b', 'c')], '[1]'), ([('a b', 'c')], '[0].student'), ([('a', 3)], '[0].teacher'),
    ([dict(student='a', teacher='a', every=0)], '[0].every'), ([('a', ['b', 'b'])], '[0].teacher'), ('a', ''), ([], '')])
def test_the_path_says_which_pair(given, path):
    with pytest.raises(DistillationError) as caught:
        Pairs(several=True, more=(('every', Number(above=0, whole=True)),)).read(given)
    assert caught.value.path == path


def test_a_number_of_pairs_can_be_asked_for():
    with pytest.raises(DistillationError, match='a list with 1 item'):
        Pairs(length=1).read(['a', 'b'])


def test_names_are_short_and_different():
    pairs = Pairs().read(['backbone.layer3@preact', 'backbone.stages.2', 'neck[0]', 'head.layer1', 'backbone.layer1'])
    assert pair_names(pairs) == ['layer3', 'stages.2', 'neck0', '3', '4']
