"""Pictures of files that no search of ordinary size writes: names with dollars, many levels, places that are taken."""
import re

import pytest
import torch
from PIL import Image

from mmkd_plugin.dfa.artefact import write_aggregation
from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways
from mmkd_plugin.report.plot import draw
from mmkd_plugin.utils.errors import DistillationError

ODD = r'$\frac$ x_$1'


def process_file(folder, teachers, students):
    taps = [[f'{side}{number}' for number in range(count)] for side, count in (('t', teachers), ('s', students))]
    pathways = make_pathways(*taps, 'all', ['conv1'])
    process = Process(pathways, 'softmax', 1., None, torch.rand(2, len(pathways)).double(), 2)
    write_process(folder / 'process.json', process)
    return folder / 'process.json'


def aggregation_file(folder, groups, layers, name='group{}'):
    made = [dict(name=name.format(number), student='s', teacher=[f't{layer}' for layer in range(layers)],
                 weights=[1 / layers] * layers) for number in range(groups)]
    course = {group['name']: [[0, *group['weights']]] for group in made}
    write_aggregation(folder / 'aggregation.json', made, dict(model='M', sha256='x'), {}, {}, course)
    return folder / 'aggregation.json'


LARGE = dict(levels=(lambda folder: process_file(folder, 300, 2), ['the first 12 of 300 teacher levels']),
             pathways=(lambda folder: process_file(folder, 2, 900), ['the first 24 of 900 pathways']),
             groups=(lambda folder: aggregation_file(folder, 1500, 2), ['the first 24 of 1500', 'the first 8 of 1500']),
             layers=(lambda folder: aggregation_file(folder, 2, 5000), ['the first 32 of 5000 layers'] * 2))


@pytest.mark.slow
@pytest.mark.parametrize('case', list(LARGE))
def test_of_what_is_large_the_first_are_drawn_and_that_is_said(tmp_path, case):
    make, said = LARGE[case]
    file = make(tmp_path)
    assert file.stat().st_size < 2 ** 20
    written = draw(file)
    for picture in written[::2]:
        assert max(Image.open(picture).size) < 4100
    texts = [picture.read_text() for picture in written[1::2]]
    drawn = [re.findall('<!-- (.*?) -->', text) + re.findall('>([^<>]+)</text>', text) for text in texts]
    for text, lines in zip(said, drawn):
        assert any(text in line for line in lines), lines[:50]


def test_a_dollar_and_what_cannot_be_printed_are_text(tmp_path):
    draw(process_file(tmp_path, 1, 2), title=f'{ODD} \udcff\x07')
    assert f'>{ODD} ??<' in (tmp_path / 'process_weights.svg').read_text()
    for file in draw(aggregation_file(tmp_path, 2, 2, ODD + '{}')):
        assert file.stat().st_size > 1000


@pytest.mark.parametrize(('name', 'folder'), [('process_weights.png', None), ('process_weights.svg', None),
                                              ('none', 'x' * 300)], ids=['png', 'svg', 'long'])
def test_a_place_that_is_taken_or_none_is_one_error(tmp_path, name, folder):
    file = process_file(tmp_path, 1, 1)
    (tmp_path / name).mkdir()
    with pytest.raises(DistillationError, match=r'^out: .*cannot be written \('):
        draw(file, tmp_path / folder if folder else None)
