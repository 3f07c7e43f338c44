"""What tools/search.py does, in this process: overrides, work dirs, what counts as finished, signals, errors."""
import os
import signal
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkd_plugin.cli.main import flags_of_search
from mmkd_plugin.cli.search import Experiment, call, search
from mmkd_plugin.distpro import read_process
from mmkd_plugin.search.derive import reads_result
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import override
from mmkd_plugin.utils.overrides import parsed_options

DEMO = 'mmkd_plugin::demo/{}_pspnet_r18w32-r18w8-d8_demo-64x128.py'
TAU = 'model.distillers.distpro.tau=0.25'
NAME = 'distpro_pspnet_r18w32-r18w8-d8_demo-64x128'
# Trains nothing: says what it was asked for, writes what a search writes, and fails where it is told to.
TRAIN = '''
import re
import sys
from pathlib import Path

config, folder = Path(sys.argv[1]), Path(sys.argv[sys.argv.index('--work-dir') + 1])
with open('calls', 'a') as calls:
    print(*sys.argv[1:], file=calls)
if folder.name == 'search':
    (folder / 'process.json').write_text(re.search(r'tau=([\\d.]+)', config.read_text())[1])
sys.exit(3 if 'model.distillers.distpro.process=none.json' in sys.argv else 0)
'''

# The same, and a process that tells the seeds of its config.
SEEDED = r'''
import json
import re
import sys
from pathlib import Path

config, folder = Path(sys.argv[1]), Path(sys.argv[sys.argv.index('--work-dir') + 1])
with open('calls', 'a') as calls:
    print(folder, file=calls)
text = config.read_text()
seed, hooks = (int(re.search(pattern, text)[1]) for pattern in (
    r'randomness = dict\(.*?seed=(\d+)', r'(?s)custom_hooks.*?seed=(\d+)'))
if Path('stop').exists() and seed == 1:
    sys.exit(3)
pathways = [dict(teacher=name, student=name, transform='conv1') for name in ('a', 'b')]
(folder / 'process.json').write_text(json.dumps(dict(
    format='mmkd.process', version=1, pathways=pathways, normalisation='softmax', bias=1.0, tau=None, unit='iter',
    length=2 + Path('longer').exists(), every=1, meta=dict(seed=10 * seed + hooks),
    importance=[[1.0, 1.0], [1.0 + seed, 1.0], *([[2.0, 2.0]] if Path('longer').exists() else [])])))
'''


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A script in place of tools/train.py, in an empty working directory; it notes how it is called in ``calls``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'train.py').write_text(TRAIN)
    return tmp_path / 'train.py'


def calls():
    return [line.split() for line in Path('calls').read_text().splitlines()]


def experiment(train='train.py', **options):
    return Experiment(DEMO.format('distpro'), Path(train), **{'cfg_options': [TAU], **options})


def both(*cfg_options, **options):
    one = experiment(cfg_options=[TAU, *cfg_options], **options)
    one.run_search()
    one.run_training()


def test_overrides_reach_the_training_and_its_search_and_more_of_them_the_search_alone():
    one = experiment(cfg_options=['search.config.train_cfg.max_iters=5', 'optim_wrapper.optimizer.lr=0.5'],
                     search_options=['custom_hooks.0.lr=0.125', 'default_hooks.checkpoint.interval=3'])
    training, search = one.training_config(), one.search_config()
    assert (training.train_cfg.max_iters, training.optim_wrapper.optimizer.lr) == (600, 0.5)
    assert (search.train_cfg.max_iters, search.optim_wrapper.optimizer.lr) == (5, 0.5)
    assert (search.custom_hooks[0].lr, search.default_hooks.checkpoint.interval) == (0.125, 3)
    assert training.default_hooks.checkpoint.interval == 600


def test_overrides_are_read_as_the_training_tool_reads_them():
    assert parsed_options('--cfg-options', ['a.b=1,2', 'c=None', 'd=x=y', 'e=[(1,true)]']) == {
        'a.b': [1, 2], 'c': None, 'd': 'x=y', 'e': [(1, True)]}


def test_the_training_after_a_search_does_not_look_for_that_search_again():
    one = Experiment(DEMO.format('distpro'), cfg_options=['search.config.train_cfg.max_iters=5', 'train_cfg.max_iters=7'],
                     search_options=['custom_hooks.0.lr=0.125'])
    cfg = load_config(one.config, 'config')
    assert reads_result(cfg)
    override(cfg, parsed_options('--cfg-options', one.options_of_training()), '--cfg-options')
    assert not reads_result(cfg)
    assert cfg.train_cfg.max_iters == 7


@pytest.mark.parametrize(('given', 'folder'), [(None, Path('work_dirs', NAME)), (Path('runs/one'), Path('runs/one'))])
def test_the_search_works_inside_the_folder_of_the_training(given, folder):
    one = experiment(work_dir=given)
    assert Path(one.training_config().work_dir) == folder
    assert Path(one.search_config().work_dir) == folder / 'search'


def test_both_stages_go_through_the_training_tool_each_in_its_folder(train):
    both(work_dir=Path('one'))
    search, training = calls()
    assert search == [f'one/search/{NAME}.py', '--work-dir', 'one/search', '--resume']
    assert Path(training[0]).name == f'{NAME}.py'
    assert training[1:] == ['--work-dir', 'one', '--resume', '--cfg-options', TAU]
    assert Path('one/search/process.json').read_text() == '0.25'
    assert Config.fromfile(search[0]).to_dict() == experiment(work_dir=Path('one')).search_config().to_dict()


def test_what_is_finished_is_not_run_again_and_what_failed_is(train, capsys):
    with pytest.raises(SystemExit, match='ended with code 3. What stands above says why; call this again to go on'):
        both('model.distillers.distpro.process=none.json')
    assert len(calls()) == 2
    both()  # what only the training knows has changed: the search stays finished
    assert len(calls()) == 3
    assert f'{Path("work_dirs", NAME, "search")}: finished before' in capsys.readouterr().out
    both()
    assert len(calls()) == 3


def test_a_finished_search_is_not_taken_for_another(train):
    both()
    with pytest.raises(SystemExit, match=r'(?s)another config was finished in \S+search\. .*\n-\s+tau=0\.25.*\n\+.+0\.5'):
        both('model.distillers.distpro.tau=0.5')
    with pytest.raises(SystemExit, match='another config was finished'):
        both(search_options=['randomness.seed=5'])
    assert len(calls()) == 2


def test_a_finished_search_whose_result_is_gone_is_run_again(train):
    both()
    Path('work_dirs', NAME, 'search', 'process.json').unlink()
    both()
    assert len(calls()) == 3


def test_a_search_that_writes_nothing_is_an_error(train):
    train.write_text('')
    with pytest.raises(SystemExit, match=r'ended without writing \S+process\.json'):
        both()


def test_several_processes_are_started_by_torchrun(train):
    train.write_text('import os' + TRAIN.replace("open('calls',", "open('calls' + os.environ['LOCAL_RANK'],"))
    experiment(gpus=2, work_dir=Path('one')).run_search()
    for rank in range(2):
        said = Path(f'calls{rank}').read_text().split()
        assert said[1:] == ['--work-dir', 'one/search', '--resume', '--launcher', 'pytorch']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('stubborn', [False, True], ids=['dies', 'ends in peace'])
def test_a_signal_ends_what_runs_and_counts_as_a_failure(tmp_path, number, stubborn):
    # The child sends its parent the signal, and would go on for a minute.
    script = ('import os, signal, sys, time; from pathlib import Path; Path("pid").write_text(str(os.getpid()));'
              f'{"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));" if stubborn else ""}'
              f'time.sleep(.5); os.kill(os.getppid(), {int(number)}); time.sleep(60)')
    before, here = signal.getsignal(number), Path.cwd()
    os.chdir(tmp_path)
    try:
        assert call([sys.executable, '-c', script]) != 0
    finally:
        os.chdir(here)
    assert signal.getsignal(number) is before
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'pid').read_text()), 0)


def test_a_second_signal_ends_what_does_not_listen_to_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = ('import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);'
              'os.kill(os.getppid(), signal.SIGINT); time.sleep(.5); os.kill(os.getppid(), signal.SIGINT); time.sleep(60)')
    assert call([sys.executable, '-c', script]) == -signal.SIGKILL


def test_without_a_signal_the_exit_code_is_the_commands():
    assert call([sys.executable, '-c', 'import sys; sys.exit(5)']) == 5
    assert call([sys.executable, '-c', '']) == 0


@pytest.mark.parametrize(('options', 'text'), [
    (dict(config='mmkd_plugin::demo/distpr_pspnet_r18w32-r18w8-d8_demo-64x128.py'), 'Did you mean .*distpro_pspnet'),
    (dict(config=DEMO.format('mgd-amp')), 'search: is missing: the config describes no search'),
    (dict(cfg_options=['train_cfg.max_iters']), "--cfg-options: 'train_cfg.max_iters'. Accepted: KEY=VALUE"),
    (dict(cfg_options=['search.hook.lr=fast']), 'search.hook.lr: '),
    (dict(cfg_options=['train_cfg.max_iters.x=1']), "--cfg-options: 'train_cfg.max_iters.x=1' does not fit the config"),
    (dict(search_options=['custom_hooks.7.lr=1']), "--search-options: 'custom_hooks.7.lr=1' does not fit the config"),
    (dict(cfg_options=['randomness.seed=x']), "randomness.seed: 'x'. Accepted: a whole number >= 0"),
    (dict(cfg_options=['search.hook.out=x.json']), 'search.hook.out: .*is where the training looks'),
    (dict(work_dir=Path('train.py')), 'work_dir: .*cannot be made or written to')])
def test_what_is_wrong_is_said_before_anything_runs(train, options, text):
    one = Experiment(**{'config': DEMO.format('distpro'), 'train': train, **options})
    with pytest.raises(DistillationError, match=text):
        one.run_search()
    assert not Path('calls').exists()


@pytest.fixture
def seeding(train):
    train.write_text(SEEDED)
    return train


def folders():
    return Path('calls').read_text().split()


def test_several_seeds_are_searched_each_in_its_folder_and_averaged(seeding, capsys):
    one = experiment(work_dir=Path('one'), seeds=3)
    one.run_search()
    assert folders() == ['one/search/seed0', 'one/search/seed1', 'one/search/seed2']
    found = read_process('one/search/process.json')
    assert found.importance.tolist() == [[1, 1], [2, 1]]
    assert found.seeds == [0, 11, 22]
    assert 'process.json: the mean of 3 searches' in capsys.readouterr().out
    one.run_search()
    assert len(folders()) == 3
    assert 'one/search: finished before' in capsys.readouterr().out


def test_seeds_that_are_finished_are_not_searched_again(seeding):
    Path('stop').touch()
    with pytest.raises(SystemExit, match='ended with code 3'):
        experiment(work_dir=Path('one'), seeds=3).run_search()
    assert not Path('one/search/process.json').exists()
    Path('stop').unlink()
    experiment(work_dir=Path('one'), seeds=3).run_search()
    assert folders() == [f'one/search/seed{number}' for number in (0, 1, 1, 2)]


def test_an_average_is_not_taken_for_one_search(seeding):
    experiment(work_dir=Path('one'), seeds=2).run_search()
    for seeds in (1, 3):
        with pytest.raises(SystemExit, match='(?s)another config was finished in one/search.*averaged_seeds = 2'):
            experiment(work_dir=Path('one'), seeds=seeds).run_search()
    assert len(folders()) == 2


def test_a_training_takes_the_average_that_is_there(seeding):
    one = experiment(work_dir=Path('one'))
    assert one.as_searched() is one
    experiment(work_dir=Path('one'), seeds=2).run_search()
    one.as_searched().run_search()
    assert len(folders()) == 2


@pytest.mark.parametrize('fails', [False, True], ids=['finished', 'begun'])
def test_a_training_takes_the_search_that_is_there_with_the_options_of_its_own(train, fails):
    """Which `mmkd train` is not told."""
    options = dict(work_dir=Path('one'), search_options=['custom_hooks.0.lr=0.125', 'randomness.seed=5'])
    if fails:
        train.write_text(TRAIN.replace("if folder.name", "sys.exit(3)\nif folder.name"))
        with pytest.raises(SystemExit):
            experiment(**options).run_search()
        train.write_text(TRAIN)
    else:
        experiment(**options).run_search()
    searched = experiment(work_dir=Path('one')).as_searched()
    assert searched.search_options == options['search_options']
    searched.run_search()
    assert Config.fromfile(f'one/search/{NAME}.py').custom_hooks[0].lr == .125
    assert len(calls()) == 1 + fails
    with pytest.raises(SystemExit, match='(?s)another config was finished in one/search.*-search_options = '):
        experiment(work_dir=Path('one')).run_search()


def test_results_that_do_not_belong_together_are_not_averaged(seeding):
    Path('stop').touch()
    with pytest.raises(SystemExit):
        experiment(work_dir=Path('one'), seeds=2).run_search()
    Path('stop').unlink()
    Path('longer').touch()
    with pytest.raises(DistillationError, match=r'seed1/process.json.*length is 3.*2, as in one/search/seed0'):
        experiment(work_dir=Path('one'), seeds=2).run_search()


def test_what_has_no_average_is_refused_before_it_runs(seeding):
    with pytest.raises(DistillationError, match="--seeds: 2 has no meaning for what mmkd.AggregationSearchHook finds"):
        Experiment(DEMO.format('dfa'), seeding, seeds=2).run_search()
    assert not Path('calls').exists()


def test_the_config_of_several_searches_is_not_dumped(seeding):
    flags = flags_of_search().parse_args([DEMO.format('distpro'), '--seeds', '2', '--dump', 'x.py'])
    with pytest.raises(SystemExit, match='--dump writes the config of one search: leave --seeds out'):
        search(flags, seeding)
    assert not Path('x.py').exists()
