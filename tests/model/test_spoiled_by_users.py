"""What users and disks do to checkpoints and work dirs: a bit that flips, a folder in the way, a name of another."""
import os
import random
import shutil

import pytest
import torch
from mmengine.logging import MMLogger
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.model.resume.newest import newest_whole, number_of
from mmkd_plugin.model.resume.saving import remove_unfinished
from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.torch_files import Archive, why_spoiled

FLIPS = 400


def cfg_of(folder, epochs=2, **options):
    model = distilled(classifier(4), classifier(8), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2']))
    return run_cfg(model, folder, epochs, length=4, **options)


def refused(cfg, *fragments):
    """The run is one error that comes before it has saved anything."""
    before = sorted(os.listdir(cfg.work_dir)) if os.path.isdir(cfg.work_dir) else []
    with pytest.raises(DistillationError) as caught:
        run(cfg)
    for fragment in fragments:
        assert fragment in str(caught.value)
    after = [name for name in sorted(os.listdir(cfg.work_dir)) if name.endswith('.pth') or name == 'last_checkpoint']
    assert after == [name for name in before if name.endswith('.pth') or name == 'last_checkpoint']


@pytest.fixture
def lines(caplog):
    """What the log has said."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records]
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work dir of a run of two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    run(cfg_of(folder))
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of it."""
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        shutil.copy2(trained / name, tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    return tmp_path


def frame_of(path):
    """The bytes of a file that are no contents of its parts: headers, the table of contents, what fills up."""
    with path.open('rb') as stream:
        size = path.stat().st_size
        parts = Archive(stream, size).parts.values()
    places = bytearray(size)
    for part in parts:
        places[part.offset:part.offset + part.size] = b'\1' * part.size
    return [place for place in range(size) if not places[place]], [place for place in range(size) if places[place]]


def alike(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[name], other[name]) for name in one)
    return one == other


@pytest.mark.parametrize('where', ['frame', 'contents'])
def test_a_file_with_a_flipped_bit_is_spoiled_or_the_same(where, tmp_path):
    content = dict(meta=dict(epoch=1), state_dict={f'layer{number}': torch.randn(3, 4) for number in range(6)})
    torch.save(content, tmp_path / 'epoch_1.pth')
    data = (tmp_path / 'epoch_1.pth').read_bytes()
    places = dict(zip(('frame', 'contents'), frame_of(tmp_path / 'epoch_1.pth')))
    chance, spoiled = random.Random(0), 0
    for _ in range(FLIPS):
        flipped, place = bytearray(data), chance.choice(places[where])
        flipped[place] ^= 1 << chance.randrange(8)
        (tmp_path / 'flipped.pth').write_bytes(flipped)
        if why_spoiled(tmp_path / 'flipped.pth') is None:
            assert alike(open_checkpoint(tmp_path / 'flipped.pth'), content), place
        else:
            spoiled += 1
    assert spoiled == FLIPS if where == 'contents' else spoiled > FLIPS / 8


def test_a_run_whose_last_checkpoint_has_a_flipped_bit_goes_on_from_the_one_before(copied, lines):
    data = bytearray((copied / 'epoch_2.pth').read_bytes())
    data[data.rindex(b'PK\1\2') + 10] ^= 8  # how the last part is compressed
    (copied / 'epoch_2.pth').write_bytes(data)
    assert newest_whole([copied]) == str(copied / 'epoch_1.pth')
    assert any('passed over' in line and 'is compressed' in line for line in lines())


@pytest.mark.parametrize('text', ['x' * 300, 'foo://bar', 'http://127.0.0.1:1/epoch_2.pth', None],
                         ids=['long', 'scheme', 'unreachable', 'folder'])
def test_a_last_checkpoint_that_names_nothing_does_not_hide_whole_ones(text, copied, lines):
    (copied / 'last_checkpoint').unlink()
    if text is None:
        (copied / 'last_checkpoint').mkdir()
    else:
        (copied / 'last_checkpoint').write_text(text)
    assert newest_whole([copied]) == str(copied / 'epoch_2.pth')
    assert sum('passed over' in line for line in lines()) == 1


@pytest.mark.parametrize('elsewhere', [['s3://mine'], []], ids=['saved there', 'nothing here'])
def test_an_address_is_for_mmengine_to_fetch(elsewhere, copied):
    (copied / 'last_checkpoint').write_text('s3://mine/x/epoch_2.pth')
    if not elsewhere:
        for path in copied.glob('*.pth'):
            path.unlink()
    assert newest_whole([copied], elsewhere=elsewhere) == 's3://mine/x/epoch_2.pth'


@pytest.mark.parametrize('name', ['last_checkpoint', 'epoch_2.pth'])
def test_a_folder_where_a_file_is_to_be_written_is_found_at_the_start(name, tmp_path):
    (tmp_path / name).mkdir()
    refused(cfg_of(tmp_path), 'work_dir: ', f'has the folder {tmp_path / name}')


def test_folders_with_the_names_of_unfinished_files_stay(tmp_path):
    for name in ('epoch_2.pth.abc.tmp', 'last_checkpoint.abc.tmp', 'epoch_2.pth.0123abcd.tmp'):
        (tmp_path / name).mkdir()
    remove_unfinished([tmp_path])
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(('options', 'fragments'), [
    (dict(filename_tmpl='{}/{}.pth'), ['filename_tmpl', "'{}/{}.pth'", 'a place for the number']),
    (dict(filename_tmpl=5), ['filename_tmpl', '5']), (dict(filename_tmpl='{x}.pth'), ['filename_tmpl', "'{x}.pth'"]),
    (dict(filename_tmpl='{'), ['filename_tmpl', "'{'"]), (dict(filename_tmpl=''), ['filename_tmpl', "''"]),
    (dict(filename_tmpl='one.pth', max_keep_ckpts=1), ['filename_tmpl', 'one name']),
    (dict(interval='x'), ['interval', "'x'", 'a whole number']), (dict(interval=1.5), ['interval', '1.5']),
    (dict(max_keep_ckpts='x'), ['max_keep_ckpts', "'x'"]), (dict(out_dir='FILE'), ['out_dir', 'is a file'])],
    ids=['two', 'number', 'name', 'brace', 'empty', 'one-for-all', 'interval-text', 'interval-float', 'keep-text',
         'out-dir-is-a-file'])
def test_what_the_checkpoint_hook_is_told_is_looked_at_at_the_start(options, fragments, tmp_path):
    (tmp_path / 'file').write_text('')
    cfg = cfg_of(tmp_path / 'run')
    cfg.default_hooks.checkpoint.update({name: str(tmp_path / 'file') if value == 'FILE' else value
                                         for name, value in options.items()})
    refused(cfg, 'default_hooks.checkpoint.', *fragments)


@pytest.mark.parametrize(('template', 'name', 'number'), [
    ('epoch_{}.pth', 'epoch_12.pth', 12), ('a_{0}.pth', 'a_3.pth', 3), ('ckpt-{:04d}.pth', 'ckpt-0003.pth', 3),
    ('ckpt-{:04d}.pth', 'ckpt-3.pth', None), ('{}-{x}.pth', '1-1.pth', None), ('last.pth', 'last.pth', None),
    ('a.{}', 'ab3', None), ('{{}}{}.pth', '{}7.pth', 7)],
    ids=['usual', 'counted', 'filled', 'not-filled', 'wrong', 'no-number', 'dot', 'braces'])
def test_numbers_in_names_are_those_that_str_format_puts_there(template, name, number, tmp_path):
    assert number_of(tmp_path / name, [template]) == (None if number is None else (0, number))


def test_a_run_with_names_of_its_own_finds_its_newest(tmp_path):
    cfg = cfg_of(tmp_path)
    cfg.default_hooks.checkpoint.filename_tmpl = 'ckpt-{:04d}.pth'
    run(cfg)
    (tmp_path / 'last_checkpoint').unlink()
    assert newest_whole([tmp_path], ['ckpt-{:04d}.pth']) == str(tmp_path / 'ckpt-0002.pth')


def test_a_copy_under_a_later_number_is_passed_over(copied, lines):
    shutil.copy(copied / 'epoch_1.pth', copied / 'epoch_7.pth')
    assert newest_whole([copied]) == str(copied / 'epoch_2.pth')
    assert any(f'{copied / "epoch_7.pth"} is of epoch 1, iteration 2' in line for line in lines())


def test_where_there_is_no_other_the_copy_is_taken_with_a_warning(copied, lines):
    (copied / 'epoch_1.pth').rename(copied / 'epoch_7.pth')
    for name in ('epoch_2.pth', 'last_checkpoint'):
        (copied / name).unlink()
    assert newest_whole([copied]) == str(copied / 'epoch_7.pth')
    assert any('is of epoch 1, iteration 2, whatever its name says' in line for line in lines())


@pytest.mark.parametrize(('change', 'fragment'), [
    (lambda state: {}, 'holds none of the weights of the student'),
    (lambda state: {f'other.{name}': value for name, value in state.items()}, 'holds none of the weights'),
    (lambda state: dict(state, **{'head.fc.bias': 'text'}), "holds head.fc.bias as 'text'"),
    (lambda state: dict(state, **{'head.fc.bias': state['head.fc.bias'] * float('nan')}), 'head.fc.bias')],
    ids=['empty', 'others', 'text', 'nan'])
def test_what_a_student_begins_with_has_weights_of_it(change, fragment, trained, tmp_path):
    state = open_checkpoint(trained / 'epoch_1.pth')['state_dict']
    torch.save(dict(state_dict=change(state)), tmp_path / 'x.pth')
    refused(cfg_of(tmp_path / 'run', load_from=str(tmp_path / 'x.pth')), 'load_from: ', fragment)
