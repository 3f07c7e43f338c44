"""Several searches of one thing, averaged into one process."""
from dataclasses import replace

import pytest
import torch

from mmkd_plugin.distpro.artefact import read_process, write_process
from mmkd_plugin.distpro.averaging import average, average_files, mean_weights
from mmkd_plugin.distpro.pathways import Pathway
from mmkd_plugin.distpro.process import Process
from mmkd_plugin.distpro.significance import kendall_tau
from mmkd_plugin.distpro.weights import biased_softmax
from mmkd_plugin.utils.errors import DistillationError

PATHWAYS = [Pathway('layer1', 'layer1', 'conv1'), Pathway('layer1', 'layer2', 'conv1'), Pathway('layer2', 'layer2', 'conv1')]


def process(ends, seed=0, **options):
    """Importance that goes from 1 to some ends in 4 records."""
    importance = 1 + torch.linspace(0, 1, 4, dtype=torch.float64)[:, None] * (torch.tensor(ends).double() - 1)
    return Process(PATHWAYS, 'biased_softmax', 1.0, 0.5, importance, 10, 3, meta=dict(
        options.pop('meta', {}), seed=seed, student='x.py'), stability=dict(entropy=.5), **options)


THREE = dict(a=process([3., 2, 1]), b=process([5., 1, 2], 1), c=process([4., 3, 0], 2))


def test_the_importance_is_the_mean_at_every_position():
    found = average(THREE)
    for number in range(4):
        expected = sum(one.importance[number] for one in THREE.values()) / 3
        torch.testing.assert_close(found.importance[number], expected, rtol=0, atol=1e-12)
    assert {**vars(found), 'importance': None, 'seeds': None, 'stability': None} == {
        **vars(THREE['a']), 'importance': None, 'seeds': None, 'stability': None}
    assert found.at(7, 20).tolist() == pytest.approx(
        (sum(one.at(7, 20) for one in THREE.values()) / 3).tolist())


def test_it_has_all_seeds_and_says_how_far_they_agree():
    found = average(THREE)
    assert (found.seeds, found.meta['student']) == ([0, 1, 2], 'x.py')
    weights = [sum(biased_softmax(record) for record in one.importance) / 4 for one in THREE.values()]
    a, b, c = (row.tolist() for row in weights)
    tau = (kendall_tau(a, b) + kendall_tau(a, c) + kendall_tau(b, c)) / 3
    assert found.stability['tau'] == pytest.approx(tau, abs=1e-4)
    assert found.stability['weights'] == pytest.approx((sum(weights) / 3).tolist(), abs=1e-4)
    torch.testing.assert_close(mean_weights(THREE['a']), weights[0])


def test_scales_are_geometric_means():
    found = average(dict(a=replace(THREE['a'], scales=[1., 2., 3.]), b=replace(THREE['b'], scales=[4., 8., 3.])))
    assert found.scales == pytest.approx([2, 4, 3])
    with pytest.raises(DistillationError, match="'b' is no search of the same: one has scales"):
        average(dict(a=replace(THREE['a'], scales=[1., 2., 3.]), b=THREE['b']))


@pytest.mark.parametrize(('change', 'message'), [
    (dict(members=PATHWAYS[::-1]), "^'b' is no search of the same: members is layer2 < .*Accepted: layer1 < layer1"),
    (dict(normalisation='softmax'), "normalisation is 'softmax'. Accepted: 'biased_softmax', as in a"),
    (dict(bias=2.), 'bias is 2.0'), (dict(tau=None), 'tau is None'), (dict(unit='epoch'), "unit is 'epoch'"),
    (dict(length=9), 'length is 9'), (dict(every=4), 'every is 4'),
    (dict(total=2.), 'total is 2.0')],
    ids=['members', 'normalisation', 'bias', 'tau', 'unit', 'length', 'every', 'total'])
def test_what_is_no_search_of_the_same_is_refused(change, message):
    with pytest.raises(DistillationError, match=message):
        average({**THREE, 'b': replace(THREE['b'], **change)})


def test_files_are_averaged_into_a_file(tmp_path):
    files = [tmp_path / f'{name}.json' for name in THREE]
    for file, one in zip(files, THREE.values()):
        write_process(file, one)
    said, doubt = average_files(files, tmp_path / 'mean.json')
    assert said.endswith('agree by a Kendall tau of 0.56 (1: the same ranking, 0: by chance)')
    assert doubt.startswith('The result of one of them hangs on its seed')
    torch.testing.assert_close(read_process(tmp_path / 'mean.json').importance, average(THREE).importance, rtol=0, atol=1e-6)
    files[1].write_text('{}')
    with pytest.raises(DistillationError, match='b.json'):
        average_files(files, tmp_path / 'mean.json')


def test_seeds_that_agree_raise_no_doubt(tmp_path):
    files = [tmp_path / 'one.json', tmp_path / 'other.json']
    for file, ends in zip(files, ([3., 2, 1], [5., 4, 2])):
        write_process(file, process(ends))
    assert len(average_files(files, tmp_path / 'mean.json')) == 1
