"""Configs and metafiles in YAML are data: what a tag would call is not called, wherever the file stands."""
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from zoo import build, classifier, distilled, mgd

from mmkd_plugin.model.default_checkpoint import default_checkpoint
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError

HARM = 'x: !!python/object/apply:os.mkdir [harm]\n'


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('harm.yml').write_text(HARM)
    return tmp_path


FILES = dict(itself=('harm.yml', HARM), yaml=('x.yaml', HARM), inherited=('x.py', "_base_ = 'harm.yml'\n"),
             inherited_by_yaml=('x.yml', '_base_: harm.yml\n'), in_the_list=('x.yml', f'_base_: []\n{HARM}'),
             in_its_bases=('x.yml', '_base_: [!!python/object/apply:os.mkdir [harm]]\n'),
             filled_in=('x.yml', HARM.replace('apply', '{{ $NO_SUCH_VARIABLE:apply }}')))


@pytest.mark.parametrize('name', list(FILES))
def test_what_a_config_would_call_is_not_called(workplace, name):
    file, text = FILES[name]
    Path(file).write_text(text)
    with pytest.raises(DistillationError, match=rf"^config: '{file}' cannot be read \(ConstructorError: .*object/apply"):
        load_config(file, 'config')
    assert not Path('harm').exists()


def test_a_teacher_in_yaml_is_data(workplace):
    model = distilled(classifier(), mgd=mgd())
    model['teacher'] = dict(config='harm.yml', allow_random_weights=True)
    with pytest.raises(DistillationError, match=r"^model\.teacher\.config: 'harm\.yml' cannot be read \(ConstructorError"):
        build(model)
    assert not Path('harm').exists()


def test_a_metafile_is_data(workplace, monkeypatch):
    package = workplace / 'somebodys'
    (package / '.mim/configs').mkdir(parents=True)
    (package / '__init__.py').touch()
    (package / '.mim/configs/x.py').touch()
    (package / '.mim/configs/metafile.yml').write_text(HARM)
    monkeypatch.syspath_prepend(str(workplace))
    with pytest.raises(DistillationError, match=r'^checkpoint: .*metafile \S+\.yml cannot be read \(ConstructorError'):
        default_checkpoint('somebodys::x.py', Config(dict()))
    assert not Path('harm').exists()


def test_the_files_would_do_harm_and_mmengines_reader_is_left_to_others(workplace):
    with pytest.raises(DistillationError):
        load_config('harm.yml', 'config')
    load('harm.yml')
    assert Path('harm').exists()


def test_aliases_do_not_fill_the_memory(workplace):
    Path('x.yml').write_text('a0: &a0 [1]\n' + ''.join(
        f'a{level}: &a{level} [{", ".join([f"*a{level - 1}"] * 10)}]\n' for level in range(1, 12)))
    with pytest.raises(DistillationError, match=r"^config: 'x\.yml' cannot be read \(ValueError: with its aliases it has"):
        load_config('x.yml', 'config')
    Path('x.yml').write_text('a: &a [*a]\n')
    with pytest.raises(DistillationError, match=r"^config: 'x\.yml' cannot be read \(RecursionError"):
        load_config('x.yml', 'config')


def test_plain_yaml_is_read_with_what_it_inherits(workplace):
    Path('base.yml').write_text('model: {type: X, layers: [1, 2.5, null, true]}\nname: "{{ fileBasename }}"\n')
    Path('x.yml').write_text('_base_: base.yml\nmodel: {depth: 3}\n')
    assert load_config('x.yml', 'config').to_dict() == dict(model=dict(type='X', layers=[1, 2.5, None, True], depth=3),
                                                            name='base.yml')
