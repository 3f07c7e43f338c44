"""``mmkd init`` on small real models: what is decided, what is written, and that it trains, the base's hooks included."""
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS, init_default_scope
from zoo import STUDENTS, loader, run, run_cfg

from mmkd_plugin.cli.init import Request, init
from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.work_dirs import latest_checkpoint

METHODS = dict(mmseg=['mgd', 'distpro', 'dfa', 'cwd', 'mgd,kd'], mmdet=['mgd', 'dfa', 'pkd', 'reviewkd'],
               mmpretrain=['mgd', 'distpro', 'dist', 'l2', 'auto'])


@MMENGINE_HOOKS.register_module(force=True)
class CountingHook(Hook):
    """Stands for the hooks that a base config has (EMA, the switch of a pipeline)."""

    def __init__(self):
        self.iterations = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iterations += 1


@pytest.fixture(params=list(STUDENTS))
def scope(request):
    return request.param


@pytest.fixture
def workplace(scope, tmp_path, monkeypatch):
    """A working directory with the config of a student's training, with a hook, a teacher's config, and its weights."""
    monkeypatch.chdir(tmp_path)
    return prepare(scope)


def prepare(scope):
    init_default_scope(scope)
    for name, width in (('student', 8), ('teacher', 16)):
        cfg = run_cfg(STUDENTS[scope](base_channels=width), f'work_dirs/{name}', epochs=8, hooks=[dict(type='CountingHook')])
        cfg.val_dataloader = loader(scope, 4, shuffle=False)
        cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='DumpResults', out_file_path='out.pkl', _scope_='mmengine')
        cfg.param_scheduler = [dict(type='MultiStepLR', milestones=[4, 6], by_epoch=True, begin=0, end=8)]
        cfg.dump(f'{name}.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), 'teacher.pth')
    return scope


def request(method='mgd', **options):
    return Request('student.py', 'teacher.py', **{**dict(checkpoint='teacher.pth', methods=method.split(','),
                                                         out=Path('made.py')), **options})


@pytest.mark.parametrize(('scope', 'method'), [(scope, method) for scope, methods in METHODS.items() for method in methods],
                         ids=lambda value: str(value))
def test_every_method_is_written_with_the_hooks_of_the_base(workplace, method):
    decisions = init(request(method))  # builds and attaches what it has written
    cfg = load_config('made.py', 'config')
    assert cfg.custom_hooks == [dict(type='CountingHook')]
    assert list(cfg.model.distillers) == method.split(',')
    if 'mgd' in method.split(','):
        said = {decision.key: decision.value for decision in decisions}
        assert said['mgd.norm'] == 'GN'  # detection, and batches of two
        assert said['MatchingUpdateHook'] == dict(interval='auto', num_images=1000)
    assert 'custom_hooks' not in Path('made.py').read_text()
    assert all(decision.reason for decision in decisions)
    assert cfg.model.image_shape == (3, 64, 64)
    if method in ('distpro', 'dfa'):
        search = derive_search(cfg)
        assert search.train_cfg.max_epochs == 2
        assert [hook['type'] for hook in search.custom_hooks] == [
            'mmkd.ProcessSearchHook' if method == 'distpro' else 'mmkd.AggregationSearchHook']


@pytest.mark.parametrize('scope', ['mmseg'], indirect=True)
def test_what_is_written_trains_with_the_hook_of_its_method_beside_those_of_the_base(workplace, tmp_path):
    init(request())
    cfg = load_config('made.py', 'config')
    cfg.work_dir, cfg.train_cfg.max_epochs = str(tmp_path / 'run'), 5
    cfg.val_cfg = cfg.val_evaluator = None
    costs = []
    cfg.val_dataloader = loader('mmseg', 4)
    test = cfg.pop('val_dataloader')
    cfg.test_dataloader, cfg.test_cfg = test, dict()
    cfg.test_evaluator = dict(type='DumpResults', out_file_path='out.pkl', _scope_='mmengine')
    runner, losses = run(cfg, lambda runner: costs.append(len(runner.hooks)))
    counting, = (hook for hook in runner.hooks if type(hook) is CountingHook)
    updating, = (hook for hook in runner.hooks if isinstance(hook, MatchingUpdateHook))
    assert counting.iterations == len(losses) == 20
    assert [done for done in range(1, 5) if updating.due(done)] == [1, 2, 3, 4]
    assert all('mgd.loss_layer4' in each for each in losses)


@pytest.mark.parametrize('scope', ['mmdet'], indirect=True)
def test_scores_of_a_shared_head_are_no_method_for_a_detector(workplace):
    with pytest.raises(DistillationError, match=r"--method: 'kd' compares class scores, .* Accepted: a method of features"):
        init(request('kd'))
    assert not Path('made.py').exists()


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_a_file_is_not_replaced_by_accident(workplace):
    Path('made.py').write_text('x = 1')
    with pytest.raises(DistillationError, match=r"-o: 'made.py' is there already. Accepted: another name, or --force"):
        init(request('kd'))
    init(request('kd', force=True))
    assert 'LogitsDistiller' in Path('made.py').read_text()
    with pytest.raises(DistillationError, match="config: 'made.py' is distilled already"):
        init(Request('made.py', 'teacher.py', 'teacher.pth', ['kd'], Path('twice.py')))


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
@pytest.mark.parametrize('before', [None, 'x = 1'], ids=['new', 'replaced'])
def test_a_config_that_does_not_build_is_not_left_there(workplace, before):
    Path('mine.py').write_text("_base_ = './student.py'\nsearch = dict(split=2.)\n")
    if before is not None:
        Path('made.py').write_text(before)
    with pytest.raises(DistillationError, match='search.split: 2'):
        init(Request('mine.py', 'teacher.py', 'teacher.pth', ['distpro'], Path('made.py'), force=True))
    assert (Path('made.py').read_text() if Path('made.py').exists() else None) == before


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_the_latest_checkpoint_of_the_teachers_training_is_taken(workplace):
    folder = Path('work_dirs/teacher')
    weights = Path('teacher.pth').rename('weights.pth')  # beside its config they would be found
    with pytest.raises(DistillationError, match='--checkpoint: is missing, and there is no'):
        init(request('kd', checkpoint=None))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('epoch_9.pth', 'epoch_10.pth'):
        (folder / name).write_bytes(weights.read_bytes())
    assert latest_checkpoint(folder) == folder / 'epoch_10.pth'
    (folder / 'last_checkpoint').write_text('/elsewhere/epoch_9.pth')
    init(request('kd', checkpoint=None))
    assert load_config('made.py', 'config').model.teacher.checkpoint == str(folder / 'epoch_9.pth')


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_weights_beside_the_teachers_config_are_said_to_be_there(workplace):
    Path('teacher.pth').rename('beside.pth')
    Path('teacher.py').rename('beside.py')
    made = init(Request('student.py', 'beside.py', methods=['kd'], out=Path('made.py')))
    found = next(decision for decision in made if decision.key == 'teacher.checkpoint')
    assert (Path(found.value).name, found.reason) == ('beside.pth', 'that beside its config')



@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_the_latest_checkpoint_lies_where_the_teachers_config_says(workplace):
    Path('elsewhere').mkdir()
    Path('teacher.pth').rename('elsewhere/epoch_2.pth')
    with Path('teacher.py').open('a') as file:
        file.write("\nwork_dir = 'elsewhere'\n")
    init(request('kd', checkpoint=None))
    assert load_config('made.py', 'config').model.teacher.checkpoint == 'elsewhere/epoch_2.pth'


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_the_work_dir_of_the_student_alone_is_not_inherited(workplace):
    assert load_config('student.py', 'config').work_dir == 'work_dirs/student'
    decisions = {decision.key: decision.value for decision in init(request('kd'))}
    assert decisions['work_dir'] == load_config('made.py', 'config').work_dir == 'work_dirs/made'
    with Path('student.py').open('a') as file:
        file.write('\nwork_dir = None\n')
    init(request('kd', force=True))
    assert 'work_dir =' not in Path('made.py').read_text()


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_the_imports_of_the_base_are_kept(workplace):
    Path('mine.py').write_text("_base_ = './student.py'\ncustom_imports = dict(imports=['json', 'csv'])\n")
    init(Request('mine.py', 'teacher.py', 'teacher.pth', ['kd'], Path('made.py')))
    assert load_config('made.py', 'config').custom_imports.imports == ['json', 'csv', 'mmkd_plugin']


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_without_data_the_default_shape_is_taken_and_said(workplace):
    cfg = Config.fromfile('student.py')
    cfg.train_dataloader.dataset = dict(type='CustomDataset', data_root='none', pipeline=[])
    cfg.dump('student.py')
    decisions = {decision.key: decision for decision in init(request('kd'))}
    assert 'no training image could be read' in decisions['image_shape'].reason
    assert 'image_shape' not in Path('made.py').read_text()


@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_the_same_is_written_each_time(workplace):
    init(request('distpro'))
    first = Path('made.py').read_text()
    np.random.seed(5)  # noqa: NPY002
    init(request('distpro', force=True))
    assert Path('made.py').read_text() == first


def test_two_teachers_of_one_student_are_two_files():
    files = [Request('a/student.py', teacher, methods=['mgd', 'kd']).file for teacher in ('mmseg::big.py', 'b/bigger.py')]
    assert files == [Path('work_dirs/mgd-kd_big_student.py'), Path('work_dirs/mgd-kd_bigger_student.py')]


@pytest.mark.parametrize('classes', [5, 7], ids=['as many classes', 'other classes'])
@pytest.mark.parametrize('scope', ['mmpretrain'], indirect=True)
def test_what_is_in_a_pool_is_said_with_its_taps_and_what_is_not_too(workplace, classes):
    teacher = load_config('teacher.py', 'config')
    teacher.model.head.num_classes = classes
    teacher.dump('teacher.py')
    said = {decision.key: decision for decision in init(request('auto'))}
    scores = ['kd', 'dist'] if classes == 5 else []
    assert said['auto.type'].reason.endswith(f'all weigh the same: {", ".join([*scores, "mgd", "hcl"])}')
    stages = [f'backbone.layer{stage}@preact' for stage in (1, 2, 3, 4)]
    assert [said[name].value for name in ('auto_mgd', 'auto')] == [[(tap, tap) for tap in stages],
                                                                   [(tap, tap) for tap in stages[1:]]]
    assert [said[f'auto_{name}'].value for name in ('kd', 'dist')] == [[('head.fc', 'head.fc')] if scores else None] * 2
    assert all(decision.reason for decision in said.values())
    assert f': {", ".join([*scores, "mgd", "hcl"])}' in Path('made.py').read_text()
