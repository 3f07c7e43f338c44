"""Nonsense in a config: each is one error with the key, the value and what is accepted, before anything is trained."""
import math
from copy import deepcopy

import pytest
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from nonsense import L2, LAYERS, caught, distpro, ids, ifvd, kd, started
from zoo import build, classifier, dfa, distilled, loader, mgd, run_cfg, update_hook

from mmkd_plugin.datasets import SplitDataset
from mmkd_plugin.dfa import AggregationSearchHook
from mmkd_plugin.distpro import ProcessSearchHook
from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.model.checkpoint import DistillationHook

NAN, INF = math.nan, math.inf
FLAG = 'Accepted: True or False'
NUMBER = 'Accepted: a number'
DISTILLERS = [
    ('tau', distpro('constant', values=[1, 1, 1], tau=NAN), 'nan', "a number, or None, 'auto'"),
    ('tau', distpro('constant', values=[1, 1, 1], tau=INF), 'inf', NUMBER),
    ('tau', distpro('constant', values=[1, 1, 1], tau='0.5'), "'0.5'", NUMBER),
    ('divisor', mgd(reduction='sum', divisor=INF), 'inf', 'a number > 0'),
    ('divisor', mgd(reduction='sum', divisor=1e39), '1e+39 is out of the range of float32', 'a number > 0'),
    ('divisor', mgd(reduction='sum', divisor=1e-46), '1e-46 is out of the range of float32', 'a number > 0'),
    ('loss_weight', dict(L2, loss_weight=10 ** 400), 'is out of the range of float32', 'a number >= 0'),
    ('loss_weight', dict(L2, loss_weight=True), 'True', 'a number >= 0'),
    ('loss_weight', dict(L2, loss_weight=[1.0]), '[1.0]', 'a number >= 0'),
    ('begin', dict(L2, begin=2 ** 70), 'is out of the range of int64', 'a whole number >= 0'),
    ('begin', dict(L2, begin='0'), "'0'", 'a whole number >= 0'),
    ('warmup', dict(L2, warmup=NAN), 'nan', 'a whole number >= 0'),
    ('log_gradients', dict(L2, log_gradients=True), 'True', 'a whole number >= 0'),
    ('loss_scale', dict(L2, loss_scale=0), '0', "a number > 0, or 'auto'"),
    ('stage_weights', mgd(stage_weights=[0, 0]), '[0, 0]', 'not all 0'),
    ('stage_weights', mgd(stage_weights=[1, INF]), 'inf', 'numbers >= 0'),
    ('stage_weights', mgd(stage_weights=[1, 2, 3]), '[1, 2, 3]', 'a list of 2 numbers'),
    ('seed', mgd(reducer='random_drop', seed='0'), "'0'", 'a whole number >= 0 and < 4294967296'),
    ('seed', mgd(reducer='random_drop', seed=2 ** 32), '4294967296', 'a whole number >= 0 and < 4294967296'),
    ('seed', dfa(seed='x'), "'x'", 'a whole number >= 0'),
    ('resize', dfa(resize='False'), "'False'", FLAG),
    ('scale_by_pathways', distpro(scale_by_pathways='False'), "'False'", FLAG),
    ('scale_by_pathways', distpro(scale_by_pathways=1), '1', FLAG),
    ('mask_padding', dict(L2, mask_padding='no'), "'no'", FLAG),
    ('temperature', kd(temperature=INF), 'inf', 'a number > 0'),
    ('temperature', kd(temperature='hot'), "'hot'", 'a number > 0'),
    ('variation_weight', ifvd(variation_weight=NAN), 'nan', 'a number >= 0'),
    ('values', distpro('constant', values=[1, NAN, 1]), 'nan', 'finite numbers'),
    ('bias', distpro('constant', values=[1, 1, 1], normalisation='biased_l1', bias=-5), '-5', 'a number >= 0'),
    # what the other options make meaningless
    ('calibration_iters', dict(L2, calibration_iters=50), 'has no meaning with loss_scale=1.0', "loss_scale='auto' be"),
    ('divisor', mgd(reduction='mean', divisor=2.0), "has no meaning with reduction='mean'", "reduction='sum' beside it"),
    ('divisor', mgd(reduction='mean', divisor=1e4), "has no meaning with reduction='mean'", "reduction='sum' beside it"),
    ('seed', mgd(seed=3), "has no meaning with reducer='absolute_max'", "reducer='random_drop' or 'random_drop_channel'"),
    ('values', distpro(values=[1, 1, 1]), "has no meaning with mode='equal'", "mode='constant' beside it"),
    ('values', distpro('process', values=[1, 1, 1]), "has no meaning with mode='process'", "mode='constant'"),
    ('process', distpro(process='x.json'), "has no meaning with mode='equal'", "mode='process' or 'final'"),
    ('process', distpro('search', process='x.json'), "has no meaning with mode='search'", "mode='process' or 'final'"),
    ('length', distpro(length=7), "has no meaning with mode='equal'", "mode='process' beside it"),
    ('length', distpro('final', length=7), "has no meaning with mode='final'", "mode='process' beside it"),
    ('pathway_map', distpro(pathway_map=dict(teacher={})), "has no meaning with mode='equal'", "mode='process' or 'final'"),
    ('normalisation', distpro(normalisation='l1'), "has no meaning with mode='equal'", "mode='process'"),
    ('normalisation', distpro(normalisation='auto'), "has no meaning with mode='equal'", "mode='process'"),
    ('tau', distpro(tau=0.5), "has no meaning with mode='equal'", "mode='process'"),
    ('bias', distpro('search', normalisation='sigmoid', bias=2), "has no meaning with normalisation='sigmoid'",
     "normalisation='biased_softmax' or 'biased_l1'"),
    ('gamma_st', dfa('distill', aggregation='last', gamma_st=1.0), "has no meaning with mode='distill'", "mode='search'"),
    ('begin', dfa('search', begin=0), "has no meaning with mode='search'", "mode='distill'"),
    # pairs
    ('pairs', dict(L2, pairs=tuple(LAYERS)), 'may be one pair or two', "[('backbone.layer3', 'backbone.layer4')] for one"),
    ('levels', dict(distpro(), levels=tuple(LAYERS)), 'may be one pair or two', 'for two'),
    ('pairs', dict(L2, pairs=dict(student='a', teacher='b')), 'is no list of pairs', '(student tap, teacher tap)'),
    ('pairs[0]', dict(L2, pairs=[5]), '5 is no pair of taps', '(student tap, teacher tap)'),
    ('pairs[0].student', dict(L2, pairs=[(dict(a=1), 'b')]), "{'a': 1}", '"module.path'),
    ('pairs[1].teacher', dict(L2, pairs=['a', ('a', ['b'])]), "['b']", '"module.path'),
    ('pairs[0].student', dict(L2, pairs=[(b'a', 'b')]), "b'a'", '"module.path'),
    ('pairs[0].student', dict(L2, pairs=[('backbone.layer4', 'backbone.layer3'), LAYERS]), "stands before 'backbone.layer3'",
     'pairs from shallow to deep'),
    ('pairs[0].student', dict(L2, pairs=LAYERS[::-1]), "comes after it in the student", 'pairs from shallow to deep'),
    ('pairs[0].teacher', dict(L2, pairs=[tuple(LAYERS), tuple(LAYERS[::-1])]), 'stands before', 'from shallow to deep'),
    ('pairs[0]', dict(L2, pairs=LAYERS[:1] * 2), "'backbone.layer3' is there twice", 'each pair once'),
    ('levels[0].student', dict(distpro(), levels=LAYERS[::-1]), 'comes after it in the student', "or connections='all'"),
    ('type', dict(type='mmkd.MatchingGuidedDistiler'), "'mmkd.MatchingGuidedDistiler'", "Did you mean 'mmkd.MatchingGuided"),
    ('type', dict(type='mmkd.MatchingUpdateHook'), 'MatchingUpdateHook', 'mmkd.MatchingGuidedDistiller'),
    ('type', dict(type=5, pairs=LAYERS), '5 is not a distiller', ''),
]


@pytest.mark.parametrize(('key', 'distiller', 'value', 'accepted'), DISTILLERS, ids=ids(DISTILLERS))
def test_a_distiller(key, distiller, value, accepted):
    caught(lambda: build(distilled(classifier(), one=distiller)), f'model.distillers.one.{key}', value, accepted)


def test_what_order_does_not_matter_to_may_stand_in_any():
    for options in (dict(connections='all'), dict(connections=[tuple(LAYERS[::-1])])):
        build(distilled(classifier(), one=dict(distpro(**options), levels=LAYERS[::-1])))
    # Several taps of one side for one of the other are in order.
    build(distilled(classifier(), one=dict(L2, pairs=[tuple(LAYERS), ('backbone.layer4', 'backbone.layer4')])))


def test_none_takes_an_inherited_value_back():
    build(distilled(classifier(), one=distpro(values=None, length=None, process=None, pathway_map=None,
                                              calibration_iters=None)))


NAMES = [('training', 'is taken'), ('forward', 'is taken'), ('_kept', 'is taken'), ('_rng_before', 'is taken'),
         ('distillers', 'is taken'), ('to', 'is taken'), ('loss', 'has "loss" in it'), ('my_loss', 'has "loss" in it'),
         ('', 'is no name'), ('a.b', 'is no name'), ('a b', 'is no name'), ('7', 'is no name')]


@pytest.mark.parametrize(('name', 'problem'), NAMES, ids=ids(NAMES))
def test_a_name_of_a_distiller(name, problem):
    model = {**distilled(classifier()), 'distillers': {name: deepcopy(L2)}}
    caught(lambda: build(model), f'model.distillers.{name}', repr(name), problem, 'Accepted: ')


def with_block(block, **changes):
    cfg = distilled(classifier(), one=L2)
    cfg[block] = {**cfg[block], **changes}
    return cfg


def with_value(key, value):
    return {**distilled(classifier(), one=L2), key: value}


def teacher(**changes):
    return with_block('teacher', **changes)


def without(block, key):
    cfg = with_block(block)
    del cfg[block][key]
    return cfg


MODELS = [
    ('model.student', without('student', 'type'), 'Accepted: a dict with a type'),
    ('model.student', with_block('student', type=5), 'Accepted: a dict with a type'),
    ('model.student', with_value('student', 'x'), "'x'. Accepted: a dict with a type"),
    ('model.student', with_value('student', 5), '5. Accepted: a dict with a type'),
    ('model.student', with_value('student', []), '[]. Accepted: a dict with a type'),
    ('model.student', {**distilled(classifier(), one=L2), 'student': distilled(classifier(), one=L2)['teacher']},
     'Accepted: a dict with a type'),
    ('model.student', with_block('student', type='ImageClasifier'), 'cannot be built (KeyError: ImageClasifier is not in'),
    ('model.student', with_block('student', depht=5), '_delete_=True'),
    ('model.student', with_block('student', backbone=dict(type='ResNet_CIFAR', depth=19)), 'invalid depth 19'),
    ('model.student', with_block('student', backbone=None), 'cannot be built ('),
    ('model.student.type', with_value('student', dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2,
                                                      in_channels=2)), "'LinearClsHead' LinearClsHead is not an mmengine "),
    ('model.teacher.type', with_value('teacher', classifier()), 'stands under config'),
    ('model.teacher', with_value('teacher', 'x.py'), "'x.py'. Accepted: a dict"),
    ('model.teacher.config', teacher(config=5), '5. Accepted: a path, "package::path", or a dict'),
    ('model.teacher.config', teacher(config={'a': 1}), 'has neither `model`'),
    ('model.teacher.config.model', teacher(config=dict(model=5)), "5. Accepted: a dict with a type: a model's config"),
    ('model.teacher.config.model', teacher(config=dict(model=dict())), 'Accepted: a dict with a type'),
    ('model.teacher.config.model', teacher(config=dict(model=[1])), '[1]. Accepted: a dict with a type'),
    ('model.teacher.config', teacher(config=dict(type='Nothing')), 'cannot be built (KeyError: Nothing is not in'),
    ('model.teacher.config', teacher(config=dict(classifier(16), depht=5)), '_delete_=True'),
    ('model.teacher.config.model.type', teacher(config=dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2,
                                                            in_channels=2)), "'LinearClsHead' builds a LinearClsHead"),
    ('model.teacher.config.model.student', teacher(config=dict(type='mmkd.DistilledModel')), 'None. Accepted: a dict'),
    ('model.teacher.config', teacher(config=dict(model=classifier(16), default_scope=5)), 'has the default_scope 5'),
    ('model.teacher.config', teacher(config='mmseg::../../setup.py'), "'mmseg::../../setup.py' leaves the configs of mmseg"),
    ('model.teacher.config', teacher(config='mmseg::x/../../../y.py'), 'leaves the configs of mmseg'),
    ('model.teacher.config', teacher(config='mmseg::/etc/x.py'), 'leaves the configs of mmseg'),
    ('model.teacher.config', teacher(config='::x.py'), 'is no known package'),
    ('model.teacher.config', teacher(config='x' * 3000 + '.py'), 'was not found'),
    ('model.teacher.allow_random_weights', teacher(allow_random_weights='False'), "'False'. " + FLAG),
    ('model.teacher.allow_random_weights', teacher(allow_random_weights='no'), "'no'. " + FLAG),
    ('model.teacher.allow_random_weights', teacher(allow_random_weights=[True]), '[True]. ' + FLAG),
    ('model.teacher.overrides', teacher(overrides={5: 1}), '{5: 1}. Accepted: a dict of dotted keys'),
    ('model.teacher.overrides', teacher(overrides=[1]), '[1]. Accepted: a dict of dotted keys'),
    ('model.teacher.overrides', teacher(overrides={'model.type.name': 1}), "'name' is no key|'type.name|does not fit"),
    ('model.teacher.overrides', teacher(overrides={'model.backbone.depht.x': 1}), "Did you mean 'depth'"),
    ('model.teacher.overrides', teacher(overrides={'': 1}), "is no key of the config"),
    ('model.teacher.config.model', teacher(overrides={'model': 5}), '5. Accepted: a dict with a type'),
    ('model.distillers', with_value('distillers', {}), 'Accepted: a dict'),
    ('model.distillers', with_value('distillers', {5: L2}), '{5: '),
    ('model.distillers.one', with_value('distillers', dict(one=5)), '5 is no distiller. Accepted: a dict with a type'),
    ('model.distillers', with_value('distillers', [L2]), 'Accepted: a dict with at least one distiller'),
    ('model.image_shape', with_value('image_shape', (3, INF, 64)), 'whole numbers > 0'),
]


@pytest.mark.parametrize(('path', 'cfg', 'fragment'), MODELS, ids=ids(MODELS))
def test_a_student_a_teacher_and_what_stands_beside_them(path, cfg, fragment):
    error = caught(lambda: build(cfg), path)
    assert any(part in str(error) for part in fragment.split('|')), str(error)


OPTIONS = [
    (MatchingUpdateHook, 'MatchingUpdateHook.distillers', dict(distillers=5),
     '5. Accepted: a list of different names of distillers'),
    (MatchingUpdateHook, 'MatchingUpdateHook.seed', dict(seed='x'), "'x'. Accepted: a whole number"),
    (MatchingUpdateHook, 'MatchingUpdateHook.by_epoch', dict(by_epoch='False'), "'False'. " + FLAG),
    (MatchingUpdateHook, 'MatchingUpdateHook.interval', dict(interval=True), 'True. Accepted: a whole number > 0'),
    (MatchingUpdateHook, 'MatchingUpdateHook.interval', dict(interval=INF), 'inf. Accepted: a whole number > 0'),
    (MatchingUpdateHook, 'MatchingUpdateHook.num_images', dict(num_images=10 ** 400), 'is out of the range of int64'),
    (DistillationHook, 'DistillationHook.interval', dict(interval='50'), "'50'. Accepted: a whole number > 0"),
    (ProcessSearchHook, 'ProcessSearchHook.lr', dict(lr=NAN), 'nan. Accepted: a number > 0'),
    (ProcessSearchHook, 'ProcessSearchHook.betas', dict(betas=(0.5, NAN)), 'Accepted: a list of 2 numbers in [0, 1)'),
    (AggregationSearchHook, 'AggregationSearchHook.optimizer.lr', dict(optimizer=dict(type='Adam', lr=NAN)),
     'nan. Accepted: a number >= 0'),
    (AggregationSearchHook, 'AggregationSearchHook.optimizer.lr', dict(optimizer=dict(type='Adam', lr='x')), "'x'"),
    (AggregationSearchHook, 'AggregationSearchHook.optimizer.weight_decay',
     dict(optimizer=dict(type='Adam', weight_decay=INF)), 'inf'),
    (AggregationSearchHook, 'AggregationSearchHook.iterations', dict(iterations=NAN), 'nan'),
    (SplitDataset, 'SplitDataset.seed', dict(part='train', dataset=dict(type='X'), seed='x'), "'x'. Accepted: a whole"),
    (SplitDataset, 'SplitDataset.dataset', dict(part='train', dataset=dict(type='Nothing')), 'cannot be built (KeyError'),
]
OUTS = [5, None, '', '.', '..', '/x.json', '../x.json', '../..', 'a/b.json', 'a\\b.json', 'a\0b', 'a\nb', 'x' * 300,
        b'x']


@pytest.mark.parametrize(('kind', 'path', 'options', 'fragment'), OPTIONS, ids=ids(OPTIONS))
def test_options_of_hooks_and_data_sets(kind, path, options, fragment):
    caught(lambda: kind(**options), path, fragment)


@pytest.mark.parametrize('out', OUTS, ids=[str(number) for number in range(len(OUTS))])
@pytest.mark.parametrize('kind', [ProcessSearchHook, AggregationSearchHook])
def test_the_file_of_a_search_is_a_name_when_the_hook_is_made(kind, out):
    caught(lambda: kind(out=out), f'{kind.__name__}.out', 'Accepted: the name of a file, without a folder')


def test_long_values_are_shortened_in_a_message():
    error = caught(lambda: build(distilled(classifier(), one=dict(L2, loss_weight=list(range(10000))))),
                   'model.distillers.one.loss_weight', '[0, 1, 2', ' ... ', '9999]')
    assert len(str(error)) < 400


# Runs: what only a Runner knows. None of them gets to an iteration.

HOOK = update_hook('mmpretrain')
RUNS = [
    ('model.distillers.one.begin', dict(model=distilled(classifier(), one=dict(L2, begin=2))),
     '2 is beyond the end of the run, which has 2 iterations', 'a whole number < 2'),
    ('model.distillers.one.tau', dict(model=distilled(classifier(), one=distpro('constant', values=[.5, .1, -1]))),
     '0.5 prunes every pathway in every iteration', 'None, or a number below'),
    ('model.distillers.one.begin', dict(model=distilled(classifier(), one=mgd(begin=9)), hooks=[HOOK]),
     '9 is beyond the end', 'a whole number < 2'),
    ('MatchingUpdateHook.distillers', dict(model=distilled(classifier()), hooks=[HOOK, HOOK]), "two of them update 'mgd'",
     'other distillers for each hook'),
    ('custom_hooks', dict(hooks=[dict(type='mmkd.DistillationHook')] * 2), 'has DistillationHook twice', 'one, or none'),
    ('custom_hooks[1].type', dict(hooks=[dict(type='EMAHook'), dict(type='mmkd.MatchingUpdatHook')]),
     "'mmkd.MatchingUpdatHook' is not known. Did you mean 'mmkd.MatchingUpdateHook'"),
    ('custom_hooks[0]', dict(hooks=[dict(type='EMAHok')]), 'cannot be built (KeyError: EMAHok is not in'),
    ('custom_hooks', dict(hooks=[dict(type='EMAHook', momentm=1)]), 'cannot be built (TypeError', 'momentm'),
    ('custom_hooks[0]', dict(hooks=[dict(type='IterTimerHook', momentm=1)]), 'cannot be built (TypeError', 'IterTimerHook'),
    ('randomness.seed', dict(randomness=dict(seed='x')), "'x'", 'a whole number >= 0 and < 4294967296, or None'),
    ('env_cfg.dist_cfg.timeout', dict(env_cfg=dict(dist_cfg=dict(timeout='x'))), "'x'", 'a number > 0, or None'),
    ('custom_hooks[0]', dict(hooks=[dict(type='mmkd.FeatureDistiller', pairs=LAYERS)]), 'cannot be built (KeyError'),
    ('custom_hooks[0]', dict(hooks=[dict()]), 'cannot be built (KeyError'),
    ('param_scheduler', dict(param_scheduler=dict(type='MultiStep', milestones=[1])), 'cannot be built (KeyError'),
]


@pytest.mark.parametrize(('path', 'given', 'fragments'), [(path, given, fragments) for path, given, *fragments in RUNS],
                         ids=ids(RUNS))
def test_a_run(tmp_path, path, given, fragments):
    caught(started(tmp_path, **deepcopy(given))[1], path, *fragments)


class Unreachable(Hook):
    """A hook whose own work fails when the run begins."""

    def before_run(self, runner):
        raise ConnectionError('no network')


def test_what_a_hook_itself_cannot_do_stays_its_own_error(tmp_path):
    runner = Runner.from_cfg(run_cfg(distilled(classifier(), one=dict(L2)), tmp_path))
    runner.register_hook(Unreachable())
    with pytest.raises(ConnectionError, match='no network'):
        runner.train()


CHANGES = [
    ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.lr', NAN, 'nan. Accepted: a number >= 0'),
    ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.lr', INF, 'inf. Accepted: a number >= 0'),
    ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.lr', -1, '-1. Accepted: a number >= 0'),
    ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.lr', '0.1', "'0.1'. Accepted: a number >= 0"),
    ('optim_wrapper.optimizer.momentum', 'optim_wrapper.optimizer.momentum', NAN, 'nan'),
    ('optim_wrapper.optimizer.type', 'optim_wrapper.optimizer.type', 'SDG', "'SDG' is not known. Did you mean 'SGD'"),
    ('optim_wrapper', 'optim_wrapper.type', 'OptimWraper', 'cannot be built (KeyError: OptimWraper is not in'),
    ('work_dir', 'work_dir', '/proc/run', "'/proc/run' cannot be made or written to"),
    ('work_dir', 'work_dir', 5, '5. Accepted: a folder that can be made and written to'),
    ('optim_wrapper', 'optim_wrapper.optimizer.rate', 1, '_delete_=True'),
    ('optim_wrapper.paramwise_cfg', 'optim_wrapper.paramwise_cfg', dict(custom_keys={'backbone': dict(lr_mult=INF)}), 'inf'),
    ('train_dataloader', 'train_dataloader.dataset.type', 'ToyDatset', 'cannot be built (KeyError: ToyDatset is not in'),
    ('train_dataloader', 'train_dataloader.dataset.lenght', 3, 'cannot be built (TypeError'),
    ('train_dataloader', 'train_dataloader.batch_size', 'x', 'cannot be built ('),
    ('train_dataloader', 'train_dataloader.sampler.type', 'None', 'cannot be built (KeyError'),
    ('train_cfg', 'train_cfg.max_epochs', 'x', 'cannot be built ('),
    ('MatchingUpdateHook.dataloader', 'custom_hooks.0.dataloader.dataset.lenght', 3, 'cannot be built (TypeError'),
]


@pytest.mark.parametrize(('path', 'key', 'value', 'fragment'), CHANGES, ids=ids(CHANGES))
def test_what_a_runner_builds(tmp_path, path, key, value, fragment):
    cfg, start = started(tmp_path, distilled(classifier()), hooks=[deepcopy(HOOK)])
    cfg.merge_from_dict({key: value})
    caught(start, path, fragment)


def test_the_cause_stays_with_the_error(tmp_path):
    cfg, start = started(tmp_path)
    cfg.optim_wrapper.optimizer.rate = 1
    assert isinstance(caught(start, 'optim_wrapper').__cause__, TypeError)


def test_a_run_without_distillation_is_left_to_mmengine(tmp_path):
    init_default_scope('mmpretrain')
    cfg = run_cfg(classifier(), tmp_path, length=2)
    cfg.optim_wrapper.optimizer.rate = 1
    with pytest.raises(TypeError, match='rate'):
        Runner.from_cfg(cfg).train()


def test_at_weight_zero_it_may_begin_whenever_it_wants(tmp_path):
    model = distilled(classifier(), one=dict(L2, begin=9, loss_weight=0))
    with pytest.raises(AssertionError, match='training has begun'):
        started(tmp_path, model)[1]()


@pytest.mark.parametrize(('interval', 'late'), [(5, '[5]'), ([1, 7], '[7]'), (1, None)])
def test_an_interval_that_never_comes_is_said(tmp_path, caplog, interval, late):
    hook = MatchingUpdateHook(interval=interval, num_images=2, dataloader=loader('mmpretrain', 2))
    runner = Runner.from_cfg(run_cfg(distilled(classifier()), tmp_path, epochs=2, length=2))
    runner.register_hook(hook)
    said = []
    runner.logger.warning = lambda text, *_: said.append(text)
    runner.logger.log = lambda level, text, *_: said.append(text)
    runner.train()
    found = [text for text in said if 'never comes' in str(text)]
    assert len(found) == (late is not None)
    assert all(f'{late} never comes in a run of 2 epochs' in text for text in found)
