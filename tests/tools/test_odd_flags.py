"""Flags and configs that make no sense, given to the tools: each ends in one line and code 1, before anything is trained."""
import os
import runpy
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from zoo import classifier, distilled, mgd, run_cfg

from mmkd_plugin.search.derive import check_search, derive_search
from mmkd_plugin.utils.config import find_config, load_config
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import override
from mmkd_plugin.utils.overrides import parsed_options

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
STARTED_BY = ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a small distilled training, ``config.py``, and a file in place of a checkpoint, ``x.pth``."""
    monkeypatch.chdir(tmp_path)
    for name in (*STARTED_BY, 'LOCAL_RANK'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    run_cfg(distilled(classifier(), mgd=mgd()), tmp_path / 'run').dump(tmp_path / 'config.py')
    Path('x.pth').touch()
    Path('folder').mkdir()
    Path('folder.pkl').mkdir()
    Path('file').touch()
    return tmp_path


@pytest.fixture
def ended(workplace, monkeypatch):
    """Calls a tool with ``config.py``, to which lines are added. Returns what it ends with."""
    def call(tool, *arguments, add='', config='config.py'):
        with Path('config.py').open('a') as file:
            file.write(f'\n{add}\n')
        monkeypatch.setattr(sys, 'argv', [f'{tool}.py', config, *arguments])
        with pytest.raises(SystemExit) as found:
            runpy.run_path(str(TOOLS / f'{tool}.py'), run_name='__main__')
        assert not list(workplace.glob('**/*.log')), 'nothing ran'
        message = found.value.code
        assert isinstance(message, str), message  # printed, with exit code 1
        assert len(message.splitlines()) == 1
        return message
    return call


OVERRIDES = dict(no_equals='foo', empty='', open_bracket='x=[1,2', closing='x=1]', crossed='x=[1,(2])', no_key='=3',
                 dots='...=1', star='*.x=1', brackets=f'x={"[" * 5000}{"]" * 5000}', inner='x=[1],[2', spaces='a. .b=1')


@pytest.mark.parametrize('tool', ['train', 'search'])
@pytest.mark.parametrize('name', list(OVERRIDES))
def test_what_is_no_override(ended, tool, name):
    message = ended(tool, '--cfg-options', OVERRIDES[name])
    assert message.startswith('error: --cfg-options: ')
    assert 'KEY=VALUE' in message


TRAIN = dict(
    resume_empty=(['--resume', ''], '', "error: --resume: ''. Accepted: a path"),
    resume_folder=(['--resume', 'folder'], '', "error: --resume: 'folder' is a folder, not a file"),
    resume_none=(['--resume', 'y.pth'], '', "error: --resume: 'y.pth' was not found"),
    resume_long=(['--resume', 'x' * 5000], '', 'error: --resume: '),
    load_from_none=([], "load_from = 'y.pth'", "error: load_from: 'y.pth' was not found"),
    load_from_number=([], 'load_from = 5', 'error: load_from: 5. Accepted: a path'),
    load_from_folder=([], "load_from = 'folder'", "error: load_from: 'folder' is a folder"),
    load_from_nul=([], "load_from = 'a\\0b'", 'error: load_from: '),
    resume_text=([], "resume = 'False'", "error: resume: 'False'. Accepted: True or False"),
    resume_path=([], "resume = 'x.pth'", "error: resume: 'x.pth'. Accepted: True or False"),
    no_model=([], 'del model', 'error: model: None. Accepted: a dict. config.py is the config of no run.'),
    model_number=([], 'model = 5', 'error: model: 5. Accepted: a dict'),
    import_=([], 'import there_is_no_such_module', "error: config: 'config.py' cannot be read ("),
    exits=([], 'raise SystemExit(3)', "error: config: 'config.py' cannot be read (SystemExit"),
    scaling=(['--auto-scale-lr'], 'auto_scale_lr = None', 'error: --auto-scale-lr needs auto_scale_lr.base_batch_size'),
    amp_none=(['--amp'], 'optim_wrapper = None', 'error: --amp needs a dict under optim_wrapper, not None'),
    amp_list=(['--amp'], 'optim_wrapper = [1]', 'error: --amp needs a dict under optim_wrapper, not [1]'),
    pytorch=(['--launcher', 'pytorch'], '', "error: --launcher: 'pytorch' has not started this process: RANK, WORLD_SIZE"),
    slurm=(['--launcher', 'slurm'], '', "error: --launcher: 'slurm' has not started this process: SLURM_PROCID"),
    mpi=(['--launcher', 'mpi'], '', "error: --launcher: 'mpi' has not started this process: OMPI_COMM_WORLD_LOCAL_RANK"))


@pytest.mark.parametrize('name', list(TRAIN))
def test_what_cannot_be_trained(ended, name):
    arguments, add, text = TRAIN[name]
    assert ended('train', *arguments, add=add).startswith(text)


def test_an_empty_config_and_the_nearest_checkpoint(ended):
    Path('empty.py').touch()
    assert ended('train', config='empty.py').startswith('error: model: None. Accepted: a dict. empty.py is the config of no')
    assert "Did you mean 'x.pth'" in ended('train', add="load_from = 'xx.pth'")


TEST = dict(
    hooks=(['--show'], 'default_hooks = None', 'error: --show and --show-dir need a visualization hook'),
    hook=(['--show'], 'default_hooks = dict(visualization=5)', 'error: --show and --show-dir need a visualization hook'),
    visualizer=(['--show-dir', 'x'], 'default_hooks = dict(visualization=dict())', 'error: --show-dir needs a visualizer'),
    show_dir=(['--show-dir', 'file'], 'default_hooks = dict(visualization=dict())\nvisualizer = dict()',
              "error: --show-dir: 'file' cannot be made or written to"),
    tta=(['--tta'], 'tta_model = None\ntta_pipeline = [1]', 'error: --tta needs tta_model and tta_pipeline'),
    tta_data=(['--tta'], 'tta_model = dict()\ntta_pipeline = [1]\ntest_dataloader = None', 'error: --tta needs test_data'),
    evaluator=(['--out', 'x.pkl'], 'test_evaluator = None', 'error: --out needs a test_evaluator'),
    segmentation=(['--out', 'x'], "default_scope = 'mmseg'\ntest_evaluator = [1]", 'error: --out needs a dict under test'),
    out_empty=(['--out', ''], 'test_evaluator = [1]', 'error: --out is a .pkl file'),
    out_suffix=(['--out', 'x.txt'], 'test_evaluator = [1]', 'error: --out is a .pkl file, not x.txt'),
    out_folder=(['--out', 'folder.pkl'], 'test_evaluator = [1]', "error: --out: 'folder.pkl' is no regular file"),
    out_below=(['--out', 'file/x.pkl'], 'test_evaluator = [1]', "error: --out: 'file' cannot be made or written to"),
    out_long=(['--out', f'{"x" * 300}.pkl'], 'test_evaluator = [1]', 'error: --out: '))


@pytest.mark.parametrize('name', list(TEST))
def test_what_cannot_be_tested(ended, name):
    arguments, add, text = TEST[name]
    assert ended('test', 'x.pth', *arguments, add=add).startswith(text)
    assert not Path('x.pkl').exists()


def test_a_name_too_long_for_a_checkpoint(ended):
    assert ended('test', 'x' * 5000).endswith('not found')


CONFIG = 'mmkd_plugin::demo/distpro_pspnet_r18w32-r18w8-d8_demo-64x128.py'
DUMP = dict(folder=('folder.py', "'folder.py' is no regular file"), empty=('', "'.'. Accepted: the name of a .py file"),
            no_suffix=('name', "'name'. Accepted: the name of a .py file"), device=('/dev/null', 'Accepted: the name of a'),
            long=(f'{"x" * 300}.py', 'cannot be written'), below=('file/x.py', 'cannot be made or written to'))


@pytest.mark.slow
@pytest.mark.parametrize('name', list(DUMP))
def test_where_the_config_of_a_search_cannot_be_written(ended, name):
    Path('folder.py').mkdir()
    place, text = DUMP[name]
    message = ended('search', '--dump', place, config=CONFIG)
    assert message.startswith('error: --dump: ')
    assert text in message


@pytest.mark.slow
def test_the_config_of_a_search_does_not_take_the_place_of_the_trainings(ended):
    Path('own.py').write_text(f"_base_ = '{find_config(CONFIG, 'config')}'\n")
    os.link('own.py', 'alias.py')
    before = Path('own.py').read_text()
    for place in ('own.py', 'alias.py'):
        message = ended('search', '--dump', place, config='own.py')
        assert message.startswith(f"error: --dump: '{place}' is the config of the training itself")
    assert Path('own.py').read_text() == before


SEARCH_OPTIONS = dict(
    hooks_empty=('custom_hooks=[]', 'custom_hooks: []'), hooks_none=('custom_hooks=None', 'custom_hooks: None'),
    hooks_number=('custom_hooks=5', 'custom_hooks: 5'), hook_type=('custom_hooks.0.type=EMAHook', 'custom_hooks[0].type: '),
    hook_out=('custom_hooks.0.out=x.json', "custom_hooks[0].out: 'x.json' is decided by the search"),
    hook_option=('custom_hooks.0.lr=fast', "custom_hooks[0].lr: 'fast'"),
    work_dir=('work_dir=x', "work_dir: 'x' is decided by the search. Accepted: --work-dir"),
    val_cfg=('val_cfg=5', 'val_cfg: 5 is decided by the search'), model=('model=5', 'model: 5. Accepted: a dict'),
    distillers=('model.distillers=5', 'model.distillers: 5'), train_cfg=('train_cfg=5', 'train_cfg: 5'),
    mode=('model.distillers.distpro.mode=equal', "model.distillers.distpro.mode: 'equal' is decided by the search"),
    kind=('model.distillers.distpro.type=mmkd.LogitsDistiller', 'model.distillers.distpro.type: '),
    options=('model.distillers.distpro.transforms=x', 'model.distillers.distpro.transforms'),
    interval=('default_hooks.checkpoint.interval=x', "default_hooks.checkpoint.interval: 'x'"))


@pytest.fixture(scope='module')
def derived():
    return derive_search(load_config(CONFIG, 'config'))


@pytest.mark.parametrize('name', list(SEARCH_OPTIONS))
def test_what_a_search_decides_is_not_overridden(derived, name):
    option, text = SEARCH_OPTIONS[name]
    cfg = deepcopy(derived)
    override(cfg, parsed_options('--search-options', [option]), '--search-options')
    with pytest.raises(DistillationError) as found:
        check_search(cfg, derived)
    assert str(found.value).startswith(text)


@pytest.mark.parametrize(('option', 'text'), [('work_dir=x', "work_dir: 'x' is decided by the search"),
                                              ('randomness.seed=x', "randomness.seed: 'x'")], ids=['work dir', 'seed'])
def test_the_tool_looks_at_the_overrides_of_a_search(ended, option, text):
    assert ended('search', '--search-options', option, config=CONFIG).startswith(f'error: --search-options.{text}')


@pytest.mark.slow
def test_a_marker_that_is_no_text_is_of_another_config(ended, monkeypatch):
    folder = Path('one/search')
    folder.mkdir(parents=True)
    (folder / 'finished').write_bytes(b'\xff\xfe\0')
    (folder / 'process.json').touch()
    monkeypatch.setattr(sys, 'argv', ['search.py', CONFIG, '--work-dir', 'one'])
    with pytest.raises(SystemExit, match=r'another config was finished in one.search\.'):
        runpy.run_path(str(TOOLS / 'search.py'), run_name='__main__')


PARTS = dict(
    model=dict(model=5), train_cfg=dict(train_cfg=5), length=dict(train_cfg=dict(max_epochs='2')),
    zero=dict(train_cfg=dict(max_epochs=0)), hooks=dict(custom_hooks=5), hook=dict(custom_hooks=[5]),
    default_hooks=dict(default_hooks=5), checkpoint=dict(default_hooks=dict(checkpoint=5)),
    interval=dict(default_hooks=dict(checkpoint=dict(interval='x'))), custom_imports=dict(custom_imports=5),
    imports=dict(custom_imports=dict(imports=5)), distillers=dict(model=dict(distillers=5)),
    listed=dict(model=dict(distillers=[1])), distiller=dict(model=dict(distillers=dict(a=5))),
    data=dict(train_dataloader=5), no_data=dict(train_dataloader=None))
KEYS = dict(length='train_cfg.max_epochs', zero='train_cfg.max_epochs', hooks='custom_hooks', hook='custom_hooks',
            checkpoint='default_hooks.checkpoint', interval='default_hooks.checkpoint.interval',
            imports='custom_imports.imports', distillers='model.distillers', listed='model.distillers',
            distiller='model.distillers.a', data='train_dataloader', no_data='train_dataloader')


@pytest.fixture(scope='module')
def shipped():
    return load_config(CONFIG, 'config')


@pytest.mark.parametrize('place', ['top', 'search.config'])
@pytest.mark.parametrize('name', list(PARTS))
def test_a_part_of_another_kind_is_named(shipped, place, name):
    cfg = deepcopy(shipped)
    change = deepcopy(PARTS[name])
    if place == 'top':
        for key, value in change.items():
            cfg[key] = value
    else:
        cfg.search.setdefault('config', {})
        cfg.search.config = {key: dict(value, _delete_=True) if key == 'train_cfg' and isinstance(value, dict) else value
                             for key, value in change.items()}
    with pytest.raises(DistillationError) as found:
        derive_search(cfg)
    above = '' if place == 'top' else 'search.config.'
    assert found.value.path == f'{above}{KEYS.get(name, name)}'


@pytest.mark.parametrize('change', [dict(type='mmkd.LogitsDistiller'), dict(mode='final'), dict(mode='process')],
                         ids=['type', 'final', 'process'])
def test_a_search_has_the_type_and_the_mode_that_follow(ended, change):
    (key, value), = change.items()
    message = ended('search', '--cfg-options', f'search.distiller.{key}={value}', config=CONFIG)
    assert message.startswith(f"error: search.distiller.{key}: '{value}' ")
