"""One file for a search and the training it is for: the config of the search follows from that of the training."""
import json
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from zoo import classifier, dfa, distilled, loader, run, run_cfg

from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.config import find_config
from mmkd_plugin.utils.errors import DistillationError

DEMO = 'mmkd_plugin::demo/{}_pspnet_r18w32-r18w8-d8_demo-64x128.py'
CINIC = 'mmkd_plugin::classification/cinic10/dfa_shufflenet-v2-2.0x-1.0x_140e_cinic10.py'
DISTPRO = dict(type='mmkd.DistProDistiller', levels=['backbone.layer1@preact', 'backbone.layer2@preact'], transforms='conv1')
DFA = dfa('distill', distance='normalized', loss_weight=2.0)
DERIVED = ('model', 'search', 'custom_hooks', 'work_dir', 'val_cfg', 'val_dataloader', 'val_evaluator')
ARTEFACTS = {'mmkd.DistProDistiller': 'process.json', 'mmkd.FeatureAggregationDistiller': 'aggregation.json'}


def shipped(reference):
    return Config.fromfile(find_config(reference, 'test'))


def training(distiller, search, work_dir='work', **others):
    """A classifier's training with a teacher of two blocks a stage; what a search validates on is given."""
    model = distilled(classifier(), classifier(16, depth=18), method=deepcopy(distiller))
    search = {'split': None, **search}
    search['hook'] = {'dataloader': loader('mmpretrain', 4), **search.get('hook', {})}
    return run_cfg(model, work_dir, search=search, **others)


def with_dataset(dataset, **search):
    """The demo's DistPro config with another data set."""
    cfg = shipped(DEMO.format('distpro'))
    cfg.train_dataloader.dataset = dataset
    cfg.search.update(search)
    return cfg


def as_dict(cfg, *without):
    return {key: value for key, value in cfg.to_dict().items() if key not in without}


@pytest.mark.parametrize('distiller', [DISTPRO, DFA], ids=['distpro', 'dfa'])
def test_a_training_finds_what_its_search_has_written(tmp_path, distiller):
    cfg = training(distiller, {}, tmp_path / 'work')
    run(derive_search(cfg))
    file = tmp_path / 'work/search' / ARTEFACTS[distiller['type']]
    assert file.is_file()
    runner, losses = run(cfg)
    assert len(losses) == 4
    found = json.loads(file.read_text())
    described = runner.model.distillation.distillers['method'].describe()
    assert all(name in described for name in ([found['members'][0]['teacher']] if 'members' in found
                                              else found['groups'][0]['teacher']))
    file.unlink()
    with pytest.raises(DistillationError, match=str(file)):
        run(training(distiller, {}, tmp_path / 'work'))


def test_the_search_has_the_mode_the_hook_and_nothing_that_only_the_training_knows():
    search = derive_search(training(DFA, dict(hook=dict(seed=3), distiller=dict(gamma_st='auto')),
                                    hooks=[dict(type='EMAHook')]))
    assert search.model.distillers.method.to_dict() == dict(
        type=DFA['type'], pairs=DFA['pairs'], mode='search', gamma_st='auto')
    hook, = search.custom_hooks
    assert (hook.type, hook.seed, hook.dataloader.batch_size) == ('mmkd.AggregationSearchHook', 3, 2)
    assert 'search' not in search


@pytest.mark.parametrize('distiller', [DISTPRO, DFA], ids=['distpro', 'dfa'])
def test_the_search_looks_at_whole_steps_whatever_the_training_leaves_out(distiller):
    thinned = dict(distiller, every=2, scale_by_every=False, fraction=0.5)
    assert derive_search(training(thinned, {})).model.distillers == derive_search(training(distiller, {})).model.distillers


def test_the_search_is_else_the_training():
    cfg = training(DISTPRO, {})
    assert as_dict(derive_search(cfg), *DERIVED, 'custom_imports') == as_dict(cfg, *DERIVED)


def test_the_training_is_not_changed():
    cfg = shipped(DEMO.format('dfa'))
    before = deepcopy(cfg.to_dict())
    derive_search(cfg)
    assert cfg.to_dict() == before


def test_a_search_neither_validates_nor_tests_its_student_in_training():
    cfg = shipped(DEMO.format('distpro'))
    assert cfg.val_cfg is not None
    search = derive_search(cfg)
    assert (search.val_cfg, search.val_dataloader, search.val_evaluator) == (None, None, None)


def test_a_search_works_in_a_folder_of_the_training(tmp_path):
    assert derive_search(training(DISTPRO, {}, tmp_path)).work_dir == str(tmp_path / 'search')
    cfg = shipped(DEMO.format('distpro'))
    assert Path(derive_search(cfg).work_dir) == Path('work_dirs', Path(cfg.filename).stem, 'search')


def test_what_is_written_down_is_the_same_config_with_its_name_and_imports(tmp_path):
    cfg = training(DISTPRO, {}, custom_imports=dict(imports='math', allow_failed_imports=True))
    cfg.dump(tmp_path / 'mine.py')
    search = derive_search(Config.fromfile(tmp_path / 'mine.py'))
    assert Path(search.filename) == tmp_path / 'mine.py'
    search.dump(tmp_path / 'again.py')
    again = Config.fromfile(tmp_path / 'again.py')
    assert again.to_dict() == search.to_dict()
    assert again.custom_imports.to_dict() == dict(imports=['math', 'mmkd_plugin'], allow_failed_imports=True)


CHANGES = '''
train_cfg = dict(max_iters=7)
param_scheduler = dict(_delete_=True, type='ConstantLR', factor=0.5, by_epoch=False)
optim_wrapper = dict(optimizer=dict(lr=0.5), clip_grad=dict(_delete_=True, max_norm=5))
test_cfg = None
default_hooks = dict(checkpoint=dict(interval=2))
'''


def test_changes_are_merged_as_a_config_that_inherits_would(tmp_path):
    reference = find_config(DEMO.format('distpro'), 'test')
    (tmp_path / 'child.py').write_text(f"_base_ = '{reference}'\n{CHANGES}")
    (tmp_path / 'changes.py').write_text(CHANGES)
    cfg = Config.fromfile(reference)
    cfg.search.config = Config.fromfile(tmp_path / 'changes.py').to_dict()
    search, child = derive_search(cfg), Config.fromfile(tmp_path / 'child.py')
    assert as_dict(search, *DERIVED, 'train_dataloader') == as_dict(child, *DERIVED, 'train_dataloader')
    assert search.param_scheduler.to_dict() == dict(type='ConstantLR', factor=0.5, by_epoch=False)


def test_a_search_may_change_the_model_and_keep_hooks():
    changes = dict(model=dict(student=dict(head=dict(topk=(1, 5)))), custom_hooks=[dict(type='EMAHook')])
    search = derive_search(training(DISTPRO, dict(config=changes)))
    assert search.model.student.head.topk == (1, 5)
    assert search.model.student.backbone.type == 'ResNet_CIFAR'
    assert [hook.type for hook in search.custom_hooks] == ['mmkd.ProcessSearchHook', 'EMAHook']


SCENES = dict(type='CityscapesDataset', data_root='data/', pipeline=[])
SPLIT = dict(type='mmkd.SplitDataset', part='train')
TRAINING_PART = dict(SPLIT, dataset=SCENES)


@pytest.mark.parametrize(('dataset', 'expected'), [
    (SCENES, TRAINING_PART),
    (dict(type='RepeatDataset', times=3, dataset=SCENES), dict(type='RepeatDataset', times=3, dataset=TRAINING_PART)),
    (dict(type='ConcatDataset', datasets=[SCENES, SCENES]), dict(type='ConcatDataset', datasets=[TRAINING_PART] * 2)),
    (dict(type='MultiImageMixDataset', pipeline=[], dataset=dict(type='ClassBalancedDataset', dataset=SCENES)),
     dict(type='MultiImageMixDataset', pipeline=[], dataset=dict(type='ClassBalancedDataset', dataset=TRAINING_PART))),
], ids=['plain', 'repeated', 'several', 'mixed'])
def test_the_data_set_itself_is_split_and_wrappers_stay_around_it(dataset, expected):
    loader_cfg = derive_search(with_dataset(dataset)).train_dataloader
    assert loader_cfg.dataset.to_dict() == expected
    assert loader_cfg.batch_size == shipped(DEMO.format('distpro')).train_dataloader.batch_size


@pytest.mark.parametrize('ratio', [0.8, 0.25])
def test_the_split_is_the_one_that_was_asked_for(tmp_path, ratio):
    for number in range(8):
        folder = tmp_path / 'train' / f'class{number % 2}'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{number}.png').touch()
    init_default_scope('mmpretrain')
    images = dict(type='CustomDataset', data_root=str(tmp_path / 'train'), pipeline=[])
    dataset = DATASETS.build(derive_search(with_dataset(images, split=ratio)).train_dataloader.dataset)
    assert len(dataset) == round(8 * ratio)


def test_nothing_is_split_where_validation_images_are_given():
    cfg = shipped(CINIC)
    assert derive_search(cfg).train_dataloader.to_dict() == cfg.train_dataloader.to_dict()


def test_a_training_set_that_is_split_already_needs_no_second_split():
    cfg = with_dataset(dict(SPLIT, ratio=0.5, dataset=SCENES), split=None)
    assert derive_search(cfg).train_dataloader.to_dict() == cfg.train_dataloader.to_dict()


@pytest.mark.parametrize(('by_epoch', 'length', 'interval', 'derived'), [
    (True, 40, 200, 10), (True, 40, 20, 20), (True, 40, 21, 10), (True, 3, 3, 1), (True, 40, -1, 10),
    (False, 300, 600, 75), (False, 300, 100, 100)])
def test_a_checkpoint_is_saved_by_the_half_of_a_search(by_epoch, length, interval, derived):
    cfg = training(DISTPRO, {})
    cfg.train_cfg = dict(by_epoch=by_epoch, **{'max_epochs' if by_epoch else 'max_iters': length})
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=by_epoch, interval=interval)
    checkpoint = derive_search(cfg).default_hooks.checkpoint
    assert (checkpoint.interval, checkpoint.by_epoch) == (derived, by_epoch)


MGD = dict(type='mmkd.MatchingGuidedDistiller', pairs=['backbone.layer4@preact'])


@pytest.mark.parametrize(('distillers', 'text'), [
    (dict(mgd=MGD), r'has none that can be searched\. There are: mgd \(mmkd\.MatchingGuidedDistiller\)'),
    (dict(one=DISTPRO, two=DISTPRO), r'has 2 that can be searched'),
    ({}, r'has none that can be searched\. There are: none')])
def test_one_distiller_has_to_be_searchable(distillers, text):
    cfg = training(DISTPRO, {})
    cfg.model.distillers = deepcopy(distillers)
    with pytest.raises(DistillationError, match=f'model.distillers: {text}.*'
                       'mmkd.DistProDistiller or mmkd.FeatureAggregationDistiller'):
        derive_search(cfg)


def test_the_searched_distiller_may_stand_beside_others():
    cfg = training(DISTPRO, {})
    cfg.model.distillers.mgd = deepcopy(MGD)
    distillers = derive_search(cfg).model.distillers
    assert distillers.method.mode == 'search'
    assert distillers.mgd.to_dict() == MGD


@pytest.mark.parametrize(('change', 'path', 'text'), [
    (None, 'search', 'describes no search'),
    ([], 'search', 'a dict with split, hook, distiller and config'),
    (dict(splt=0.7), 'search.splt', "Did you mean 'split'"),
    (dict(split=1.5), 'search.split', '> 0 and < 1, or None'),
    (dict(hook=dict(type='mmkd.ProcessSearchHook')), 'search.hook.type', 'follows from the type of the distiller'),
    (dict(hook=dict(dataloader=dict(batch_size=2))), 'search.split', 'is not written, so it is 0.8: has no meaning beside'),
    (dict(split=.7, hook=dict(dataloader=dict(batch_size=2))), 'search.split', '0.7 has no meaning beside hook.dataloader'),
    (dict(split=None), 'search.hook.dataloader', 'validation data that training does not see'),
    (dict(config=dict(param_scheduler=dict(gamma=0.1))), 'search.config', 'param_scheduler'),
    (dict(distiller=['mode']), 'search.distiller', 'options of the distiller'),
    (dict(hook=dict(intervall=2)), 'search.hook.intervall', "Did you mean 'interval'"),
    (dict(hook=dict(lr='fast')), 'search.hook.lr', 'Accepted: a number > 0'),
    (dict(distiller=dict(tranforms='conv1')), 'search.distiller.tranforms', "Did you mean 'transforms'"),
    (dict(config=dict(val_cfg=dict())), 'search.config.val_cfg', 'is decided by the search'),
    (dict(config=dict(work_dir='x')), 'search.config.work_dir', '--work-dir'),
    (dict(config=dict(train_cgf=dict(max_iters=2))), 'search.config.train_cgf', "Did you mean 'train_cfg'"),
    (dict(config=dict(train_cfg=dict(max_epochs=2))), 'search.config.train_cfg', 'max_epochs or max_iters')])
def test_what_does_not_fit_is_named_by_its_key(change, path, text):
    cfg = shipped(DEMO.format('distpro'))
    if isinstance(change, dict):
        cfg.search.update(change)
    else:
        cfg.search = change
    with pytest.raises(DistillationError) as found:
        derive_search(cfg)
    assert found.value.path == path
    assert text in str(found.value)


@pytest.mark.parametrize(('dataset', 'text'), [
    (TRAINING_PART, 'is split already'),
    (dict(type='RepeatDataset', times=2, dataset=TRAINING_PART), 'is split already'),
    (None, 'no train_dataloader.dataset')])
def test_what_cannot_be_split_is_said(dataset, text):
    with pytest.raises(DistillationError, match=f'^search.split: .*{text}'):
        derive_search(with_dataset(dataset))
