"""What the tools do before and around a run: the config, its overrides, the work dir, the seed, and how they end."""
import argparse
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import check_environment, make_work_dir, one_line_errors, override, read_config

CONFIG = "randomness = dict(seed={seed})\nmodel = dict(type='{kind}', layers=[1, dict(width=2)])\nwork_dir = r'{folder}'\n"


@pytest.fixture
def arguments(tmp_path):
    def make(seed=0, kind='X', folder=None, **given):
        (tmp_path / 'config.py').write_text(CONFIG.format(seed=seed, kind=kind, folder=folder or tmp_path / 'run'))
        return argparse.Namespace(**{'config': str(tmp_path / 'config.py'), 'launcher': 'none', 'local_rank': 0,
                                     'cfg_options': None, 'work_dir': None, **given})
    return make


def refused(call, path, *fragments):
    with pytest.raises(DistillationError) as caught:
        call()
    assert caught.value.path == path
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_config_is_read_overridden_and_gets_its_folder(arguments, tmp_path):
    cfg = read_config(arguments(cfg_options={'model.layers.1.width': 5}))
    assert cfg.model.layers == [1, dict(width=5)]
    assert (tmp_path / 'run').is_dir()
    assert list((tmp_path / 'run').iterdir()) == []
    assert read_config(arguments(work_dir=str(tmp_path / 'other'))).work_dir == str(tmp_path / 'other')


def test_overrides_are_merged_at_once_so_that_one_may_delete_what_was_there_before(arguments):
    changes = {'model.layers': [3], 'model._delete_': True, 'model.type': 'Y'}
    assert read_config(arguments(cfg_options=changes)).model.to_dict() == dict(layers=[3], type='Y')


@pytest.mark.parametrize('change', [('model.layers.7.width', 1), ('model.type.name', 'x'), ('model.layers.one', 2)],
                         ids=['beyond a list', 'below a text', 'no number'])
def test_an_override_that_does_not_fit_is_named(change):
    cfg = Config(dict(model=dict(type='X', layers=[1, dict(width=2)])))
    refused(lambda: override(cfg, {'model.depth': 3, change[0]: change[1]}, '--cfg-options'), '--cfg-options',
            f"'{change[0]}={change[1]}' does not fit the config", 'Accepted: keys of its dicts')


@pytest.mark.parametrize(('name', 'text', 'fragment'), [
    ('none.py', None, 'was not found'), ('config.txt', 'a = 1', 'is not a config file'),
    ('broken.py', 'a = (', 'cannot be read (SyntaxError'), ('raising.py', 'a = 1 / 0', 'cannot be read (ZeroDivisionError'),
    ('base.py', "_base_ = 'nothing.py'", 'cannot be read (FileNotFoundError'), ('bad.json', '{', 'cannot be read (')])
def test_a_config_that_cannot_be_read_is_named(arguments, tmp_path, name, text, fragment):
    if text is not None:
        (tmp_path / name).write_text(text)
    refused(lambda: read_config(arguments(config=str(tmp_path / name))), 'config', name, fragment)


def test_what_mmengine_takes_from_an_older_setuptools_is_said(arguments, tmp_path, monkeypatch):
    (tmp_path / 'based.py').write_text("_base_ = 'mmseg::_base_/default_runtime.py'")
    # As OpenMMLab's mmengine has it; OneDL's imports no pkg_resources.
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda package: __import__('pkg_resources'))
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)
    refused(lambda: read_config(arguments(config=str(tmp_path / 'based.py'))), 'config', 'pkg_resources',
            "pip install 'setuptools<82'")


@pytest.mark.parametrize('seed', ["'x'", '-1', '1.5', '2 ** 32', 'True', '[1]', "float('nan')"])
def test_a_seed_is_a_whole_number_that_every_generator_takes(arguments, seed):
    refused(lambda: read_config(arguments(seed=seed)), 'randomness.seed',
            'Accepted: a whole number >= 0 and < 4294967296, or None')


@pytest.mark.parametrize('seed', [None, 0, 2 ** 32 - 1])
def test_a_seed_that_fits_passes(seed):
    check_environment(dict(randomness=dict(seed=seed)))
    check_environment({})


@pytest.mark.parametrize(('cfg', 'path'), [
    (dict(randomness=5), 'randomness'), (dict(env_cfg='x'), 'env_cfg'), (dict(env_cfg=dict(dist_cfg=3)), 'env_cfg.dist_cfg'),
    (dict(env_cfg=dict(dist_cfg=dict(timeout='1m'))), 'env_cfg.dist_cfg.timeout'),
    (dict(env_cfg=dict(dist_cfg=dict(timeout=0))), 'env_cfg.dist_cfg.timeout')], ids=lambda value: str(value))
def test_what_a_runner_sets_up_first_is_looked_at_first(cfg, path):
    refused(lambda: check_environment(cfg), path, 'Accepted')


def test_a_type_of_ours_that_does_not_exist_is_named_wherever_it_stands(arguments):
    refused(lambda: read_config(arguments(kind='mmkd.DistiledModel')), 'model.type', "Did you mean 'mmkd.DistilledModel'")


def unusable(folder):
    """Folders that can neither be made nor be written to, whoever asks."""
    (folder / 'file').touch()
    return {'a file': folder / 'file', 'below a file': folder / 'file/run', 'of the system': Path('/proc/run'),
            'too long': folder / ('x' * 300), 'empty': '', 'a number': 5, 'none': None, 'with a zero': 'a\0b'}


@pytest.mark.parametrize('case', ['a file', 'below a file', 'of the system', 'too long', 'empty', 'a number', 'none',
                                  'with a zero'])
def test_a_work_dir_that_cannot_be_written_to_is_refused_before_work_starts(tmp_path, case):
    refused(lambda: make_work_dir(unusable(tmp_path)[case]), 'work_dir',
            'Accepted: a folder that can be made and written to')


def test_so_it_is_when_a_config_is_read(arguments, tmp_path):
    (tmp_path / 'file').touch()
    refused(lambda: read_config(arguments(folder=tmp_path / 'file')), 'work_dir', str(tmp_path / 'file'))


def test_a_mistake_ends_a_tool_in_one_line_with_code_1():
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise DistillationError('has\ntwo lines', path='a.b', given='x')
    assert caught.value.code == "error: a.b: 'x' has two lines."  # Python prints a text to stderr and exits with 1
    assert caught.value.__suppress_context__


def test_ranks_wait_as_long_for_each_other_as_the_config_says(arguments, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)  # gloo is for machines without a GPU
    for name, value in dict(MASTER_ADDR='127.0.0.1', MASTER_PORT='0', RANK='0', WORLD_SIZE='1').items():
        monkeypatch.setenv(name, value)
    try:
        read_config(arguments(launcher='pytorch', cfg_options={'env_cfg.dist_cfg.timeout': 7}))
        group = torch.distributed.distributed_c10d._get_default_group()
        assert group._get_backend(torch.device('cpu')).options._timeout.total_seconds() == 7
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


IMPORTS = dict(missing=('', "'other_losses', which cannot be imported (ModuleNotFoundError: No module named 'other_losses')",
                        'has to be in PYTHONPATH'),
               inside=('import torch.there_is_no_such_module', "'own_losses', which cannot be imported "
                       "(ModuleNotFoundError: No module named 'torch.there_is_no_such_module')"),
               name=('from torch import no_such_name', "'own_losses', which cannot be imported (ImportError: cannot import "
                     "name 'no_such_name'"))


@pytest.mark.parametrize('case', list(IMPORTS))
def test_why_a_module_of_custom_imports_cannot_be_imported_is_said(case, arguments, tmp_path, monkeypatch):
    code, *fragments = IMPORTS[case]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'own_losses.py').write_text(code)
    module = 'own_losses' if code else 'other_losses'
    (tmp_path / 'own.py').write_text(f"custom_imports = dict(imports=['{module}'])\nmodel = dict(type='X')\n")
    refused(lambda: read_config(arguments(config=str(tmp_path / 'own.py'))), 'config', 'own.py', 'has custom_imports of',
            *fragments)


@pytest.mark.parametrize(('key', 'there'), [('model.teacher.runtime.fold_bn', "model.teacher.runtime is 'auto' there"),
                                            ('schedulers.0.step.gamma', 'schedulers.0.step is None there')])
def test_an_override_below_what_is_no_dict_says_how_to_replace_it(key, there):
    cfg = Config(dict(model=dict(teacher=dict(runtime='auto')), schedulers=[dict(step=None)]))
    above = key.rpartition('.')[0]
    refused(lambda: override(cfg, {key: True}, '--cfg-options'), '--cfg-options', there, f'{above}._delete_=True beside it')
    override(cfg, {key: True, f'{above}._delete_': True}, '--cfg-options')
    assert cfg.model.teacher.runtime == dict(fold_bn=True) or cfg.schedulers == [dict(step=dict(gamma=True))]


@pytest.mark.parametrize('model', [dict(type='mmrazor.SingleTeacherDistill'),
                                   dict(type='SingleTeacherDistill', _scope_='mmrazor')], ids=['prefix', 'scope'])
def test_an_algorithm_of_mmrazor_is_named_with_what_it_is_here(model, arguments, tmp_path):
    (tmp_path / 'razor.py').write_text(f'model = {model!r}\n')
    refused(lambda: read_config(arguments(config=str(tmp_path / 'razor.py'))), 'model.type', 'is of mmrazor',
            "is here: type='mmkd.DistilledModel' (docs/coming-from-mmrazor.md)")
