"""A short form of the kill suite for every day, and that it sees what it is there to see. The long form: `make kill`."""
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kill.cases import CASES
from kill.compare import differences

RUN = Path(__file__).parent / 'run.py'
# Epochs and iterations, loader workers, one checkpoint kept, both searches with the files they write.
SHORT = ('mgd-persistent-workers', 'keep-one-epochs', 'accumulation-iterations', 'distpro-search-iterations',
         'dfa-search-epochs')


def suite(folder, *cases, limit):
    command = [sys.executable, str(RUN), '--seed', '5', '--limit', str(limit), '--jobs', '1', '--folder', str(folder),
               '--json', str(folder / 'results.json'), '--case', *cases]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


@pytest.mark.slow
def test_runs_that_are_killed_and_resumed_are_equal_to_those_left_alone(tmp_path):
    done = suite(tmp_path, *SHORT, limit=3)
    assert done.returncode == 0, f'{done.stdout[-4000:]}\n{done.stderr[-2000:]}'
    results = json.loads((tmp_path / 'results.json').read_text())['results']
    assert sorted(result['case'] for result in results) == sorted(SHORT)
    assert all(result['random'] + result['named'] + result['workers'] == 3 for result in results)


@pytest.mark.slow
def test_a_run_that_forgets_something_is_found_unequal(tmp_path):
    done = suite(tmp_path, 'forgetful', limit=4)
    assert done.returncode == 1, done.stdout[-4000:]
    assert 'UNEQUAL' in done.stdout
    assert json.loads((tmp_path / 'results.json').read_text())['results'][0]['outcomes'].get('UNEQUAL')


@pytest.mark.parametrize(('one', 'other', 'found'), [
    pytest.param({'a': [1.0]}, {'a': [math.nextafter(1, 2)]}, ['.a[0]: 1.0 and 1.0000000000000002'], id='last bit'),
    pytest.param(torch.tensor([0.0]), torch.tensor([-0.0]), [''], id='sign of zero'),
    pytest.param(torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64), [''], id='data type'),
    pytest.param(torch.zeros(2, 3), torch.zeros(3, 2), [''], id='shape'),
    pytest.param({'a': 1}, {'b': 1}, [": keys ['a', 'b']"], id='key'),
    pytest.param((1, 2), (1,), [': 2 and 1 items'], id='length'),
    pytest.param({'a': 1}, {'a': 1.0}, ['.a: int and float'], id='kind'),
    pytest.param({'a': None}, {'a': 'x'}, ['.a: NoneType and str'], id='nothing')])
def test_a_difference_of_one_bit_is_found(one, other, found):
    assert differences(one, other) == found


@pytest.mark.parametrize('value', [
    pytest.param(torch.tensor([float('nan'), 1.0]), id='NaN in a tensor'), pytest.param({'a': [float('nan')]}, id='NaN'),
    pytest.param(torch.zeros(3, 0), id='empty'), pytest.param(torch.tensor(True), id='truth'),
    pytest.param({'a': (1, 'x', None)}, id='nested')])
def test_what_has_the_same_bits_is_equal(value):
    assert differences(value, value) == []


def test_dates_do_not_count():
    assert differences({'date': 'today', 'a': 1}, {'date': 'tomorrow', 'a': 1}) == []


def test_the_cases_cover_every_method_and_circumstance():
    about = ' '.join(case.about for case in CASES.values() if not case.planted)
    for word in ('MGD', 'search of DistPro', 'DistPro replays', 'search of DFA', 'DFA distils', 'features', 'logits',
                 'scale', 'epochs', 'iterations', 'loader workers', 'persistent', 'moving average', 'added up', 'validation',
                 'dropout', 'one checkpoint is kept', 'two processes'):
        assert word in about, word


def test_half_a_file_is_on_the_disk_when_its_writer_dies(tmp_path):
    code = f'''if True:
        import sys
        sys.path.insert(0, {str(RUN.parents[1])!r})
        from pathlib import Path
        from kill.moments import INSIDE, OPEN, Moment, install
        install(Moment('half', OPEN, INSIDE, '.pth'), 2, lambda: print('now', flush=True))
        for name in ('a.pth', 'b.txt', 'c.pth', 'd.pth'):
            Path({str(tmp_path)!r}, name).write_bytes(b'x' * 100)'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == 'now\n'
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {'a.pth': 100, 'b.txt': 100, 'c.pth': 50}
