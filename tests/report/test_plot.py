"""tools/plot.py: one tool for what any search has written."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmkd_plugin.dfa.artefact import write_aggregation
from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways

TOOL = Path(__file__).resolve().parents[2] / 'tools/plot.py'
LEVELS = ['backbone.layer1@preact', 'backbone.layer2@preact']


def plot(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def process(tmp_path):
    pathways = make_pathways(LEVELS, LEVELS, 'all', ['conv1'])
    write_process(tmp_path / 'process.json', Process(pathways, 'softmax', 1., None, torch.rand(3, 4).double(), 3))
    return tmp_path / 'process.json'


@pytest.fixture
def aggregation(tmp_path):
    group = dict(name='layer1', student='s', teacher=['t', 'u'], weights=[.75, .25])
    write_aggregation(tmp_path / 'aggregation.json', [group], dict(model='M', sha256='x'), {}, {},
                      dict(layer1=[[0, .5, .5], [9, .75, .25]]))
    return tmp_path / 'aggregation.json'


@pytest.mark.slow
def test_a_process_is_drawn_beside_its_file(process):
    done = plot(process, '--title', 'weights')
    assert done.returncode == 0, done.stderr
    assert {path.name for path in process.parent.iterdir()} == {'process.json', 'process_weights.png', 'process_weights.svg'}


@pytest.mark.slow
def test_an_aggregation_is_drawn_into_a_folder_with_its_course(aggregation, tmp_path):
    done = plot(aggregation, '--out', tmp_path / 'pictures')
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / 'pictures').iterdir()}
    assert names == {f'aggregation_{what}.{kind}' for what in ('weights', 'course') for kind in ('png', 'svg')}
    assert Image.open(tmp_path / 'pictures/aggregation_course.png').size[0] > 100


@pytest.mark.slow
def test_what_cannot_be_drawn_is_one_error(process, tmp_path):
    (tmp_path / 'no.json').write_text(json.dumps(dict(format='mine')))
    for arguments, message in (((tmp_path / 'no.json',), "has the format 'mine'.*'mmkd.process' or 'mmkd.aggregation'"),
                               ((tmp_path / 'proces.json',), "was not found.*Did you mean '.*process.json'"),
                               ((process, '--out', process), 'out: .*cannot be made.*Accepted: a folder')):
        done = plot(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert re.search(f'error: .*{message}', done.stderr), done.stderr
