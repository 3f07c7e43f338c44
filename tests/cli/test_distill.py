"""What ``mmkd distill`` runs and when it ends, and what a training that never began leaves behind; nothing is trained."""
from pathlib import Path

import pytest
from made_runs import make_run, numbers
from zoo import classifier, distilled, mgd, run_cfg

from mmkd_plugin.cli.distill import distill
from mmkd_plugin.cli.init import Request
from mmkd_plugin.cli.main import flags_of_train
from mmkd_plugin.cli.train import NewFolders, train
from mmkd_plugin.utils.errors import DistillationError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'

@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A working directory with a distilled config; notes the commands that are run, which end with the codes of ``ends``."""
    monkeypatch.chdir(tmp_path)
    cfg = run_cfg(distilled(classifier(), mgd=mgd()), tmp_path / 'run')
    cfg.pop('work_dir')
    cfg.dump('made.py')
    commands, ends = [], {}

    def call(command):
        commands.append(command[3:])
        if '--out' in command and not ends.get('crashes'):
            Path(command[command.index('--out') + 1]).write_text('{"measured": null}')
        return ends.get(command[3], 0)

    monkeypatch.setattr('mmkd_plugin.cli.distill.call', call)
    return commands, ends


REQUEST = Request('student.py', 'teacher.py', out=Path('made.py'))


def test_a_config_is_checked_before_it_is_trained(ran):
    commands, _ = ran
    distill(REQUEST, cfg_options=['train_cfg.max_epochs=2'])
    flags = ['--work-dir', 'work_dirs/made', '--cfg-options', 'train_cfg.max_epochs=2']
    checked, out = commands[0], commands[0].index('--out')
    assert checked[:out] + checked[out + 2:] == ['check', 'made.py', '--iters', '6', '--teacher-samples', '64', *flags]
    assert commands[1] == ['train', 'made.py', '--resume', *flags]
    assert Path('work_dirs/made/check.json').read_text() == '{"measured": null}'


@pytest.mark.parametrize(('code', 'crashes', 'words'), [
    (2, False, 'mmkd check has found errors in made.py, see above.'), (-15, True, 'mmkd check ended with code -15.'),
    (1, True, 'mmkd check ended with code 1.'), (1, False, '')])
def test_errors_end_it_and_warnings_do_not(ran, code, crashes, words):
    commands, ends = ran
    ends.update(check=code, crashes=crashes)
    if not words:
        distill(REQUEST)
    else:
        with pytest.raises(SystemExit, match=f'^error: {words}.*--no-check'):
            distill(REQUEST)
    assert [command[0] for command in commands[:2]] == (['check'] if words else ['check', 'train'])
    assert Path('work_dirs').exists() == (not words)


def test_what_an_earlier_check_has_found_is_gone_where_the_next_is_left_out(ran):
    Path('work_dirs/made').mkdir(parents=True)
    Path('work_dirs/made/check.json').write_text('of another teacher')
    distill(REQUEST, check=False)
    assert not Path('work_dirs/made/check.json').exists()


def test_what_has_begun_is_not_checked_again_nor_where_that_is_not_wanted(ran):
    commands, _ = ran
    distill(REQUEST, check=False)
    Path('work_dirs/made').mkdir(parents=True)
    Path('work_dirs/made/epoch_1.pth').touch()
    distill(REQUEST)
    assert [command[0] for command in commands if command[0] in ('check', 'train')] == ['train', 'train']


@pytest.mark.parametrize(('lines', 'said'), [
    (numbers(), 'done: work_dirs/made, with mIoU 61 at its last validation. `mmkd export'),
    (numbers(metrics=()), 'done: work_dirs/made. `mmkd export')], ids=['validated', 'nothing validated'])
@pytest.mark.parametrize('tested', [False, True])
def test_the_last_line_says_what_the_student_has_come_to(ran, capsys, lines, said, tested):
    make_run(Path('work_dirs/made'), lines=lines)
    if tested:
        test = Path('work_dirs/made/test/20260101_000000')
        test.mkdir(parents=True)
        (test / '20260101_000000.json').write_text('{"mIoU": 62.0}')
        said = said.replace('mIoU 61', 'mIoU 62 in its test and 61').replace('made. ', 'made, with mIoU 62 in its test. ')
    distill(REQUEST)
    assert capsys.readouterr().out.splitlines()[-1].startswith(said)


@pytest.mark.parametrize('asked', [
    Request('student.py', 'teacher.py', 'right.pth', out=Path('made.py')),
    Request('student.py', 'teacher.py', 'wrong.pth', ('kd',), out=Path('made.py'))], ids=['checkpoint', 'method'])
def test_a_config_that_other_flags_have_made_is_not_taken_for_what_is_asked_for(ran, asked):
    commands, _ = ran
    made = Path('made.py')
    made_by = 'mmkd init student.py --teacher teacher.py --checkpoint wrong.pth --method mgd'
    made.write_text(f'# Made by mmkd_plugin 0.2.0:\n#     {made_by}\n' + made.read_text())
    with pytest.raises(DistillationError, match=f"^-o: 'made.py' was made by `{made_by}`. Accepted: --force"):
        distill(asked)
    assert not commands
    distill(Request('student.py', 'teacher.py', 'wrong.pth', out=made))
    assert commands


@pytest.mark.parametrize(('work_dir', 'options', 'used'), [
    (None, [], 'work_dirs/deep'), (None, ['work_dir=elsewhere'], 'elsewhere'),
    (Path('given'), ['work_dir=elsewhere'], 'given')])
def test_it_works_where_a_training_of_its_config_would(ran, work_dir, options, used):
    commands, _ = ran
    Path('folder').mkdir()
    Path('made.py').rename('folder/deep.py')
    distill(Request('student.py', 'teacher.py', out=Path('folder/deep.py')), work_dir, options)
    assert {command[command.index('--work-dir') + 1] for command in commands if '--work-dir' in command} <= {
        used, f'{used}/test'}
    assert commands[-1] == ['report', used]


def ends_with(error, folder, used=False):
    def run():
        with NewFolders() as new:
            new.make(folder)
            (folder / 'log').mkdir()
            new.used = used
            raise error

    with pytest.raises(type(error)):
        run()
    return folder.exists()


def test_a_run_that_a_mistake_ends_before_it_begins_leaves_nothing_that_it_has_made(tmp_path):
    (tmp_path / 'here').mkdir()
    assert not ends_with(SystemExit('error: x'), tmp_path / 'a/b')
    assert not (tmp_path / 'a').exists()
    assert not ends_with(DistillationError('x'), tmp_path / 'here/b')
    assert ends_with(DistillationError('x'), tmp_path / 'here')
    assert ends_with(DistillationError('x'), tmp_path / 'c', used=True)
    assert ends_with(KeyError('a bug, whose log is wanted'), tmp_path / 'd')


@pytest.mark.parametrize(('override', 'message'), {
    'model.distillers.mgd.reducton=mean': r"model\.distillers\.mgd\.reducton: .* Did you mean 'reduct",
    'model.teacher.checkpoint=none.pth': r"model\.teacher\.checkpoint: 'none\.pth' was not found"}.items(),
    ids=['option', 'checkpoint'])
def test_a_mistake_in_the_config_is_told_before_data_is_read(override, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no data
    config = CONFIGS / 'demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py'
    with pytest.raises(DistillationError, match=message):
        # A name of its own: mmengine keeps visualizers by name, with their folders.
        train(flags_of_train('mmkd train').parse_args([
            str(config), '--cfg-options', override, f'visualizer.name={tmp_path.name}']))
    assert not (tmp_path / 'work_dirs').exists()
