"""Values that a user has tried and that were run with: each is one error with its key now, or acts."""
import math

import numpy as np
import pytest
import torch
from dfa_runs import hook, search_run
from distpro_runs import search_cfg
from nonsense import L2, LAYERS, caught, distpro, ids, ifvd, kd, started
from zoo import build, classifier, distilled, loader, mgd, run, run_cfg, update_hook

from mmkd_plugin.baselines import FeatureDistiller
from mmkd_plugin.dfa import AggregationSearchHook
from mmkd_plugin.distpro import ProcessSearchHook
from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.model.non_finite import NonFiniteWatch
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.files import LONGEST_FILE_NAME, write_whole
from mmkd_plugin.utils.launch import check_environment

NAN, INF = math.nan, math.inf
FLAG = 'Accepted: True or False'


def norm(kind, **options):
    return mgd(norm=dict(type=kind, **options))


def feature(**loss):
    return dict(L2, loss=loss)


def review(**options):
    return dict(type='mmkd.ReviewKDDistiller', pairs=LAYERS, **options)


DIGITS = '9' * 5000
DISTILLERS = [
    ('norm.num_groups', norm('GN', num_groups=0), '0', 'a whole number > 0'),
    ('norm.num_groups', norm('GN', num_groups=-2), '-2', 'a whole number > 0'),
    ('norm.num_groups', norm('GN', num_groups=2.0), '2.0', 'a whole number > 0'),
    ('norm.num_groups', norm('GN', num_groups=True), 'True', 'a whole number > 0'),
    ('norm.num_groups', norm('GN', num_groups=3), '3 does not divide the', 'Accepted: a number that does'),
    ('norm.momentum', norm('BN', momentum=NAN), 'nan', 'a number >= 0 and <= 1'),
    ('norm.momentum', norm('BN', momentum=1e30), '1e+30', 'a number >= 0 and <= 1'),
    ('norm.momentum', norm('SyncBN', momentum=5), '5', 'a number >= 0 and <= 1'),
    ('norm.momentum', norm('IN', momentum=-3), '-3', 'a number >= 0 and <= 1'),
    ('norm.momentum', norm('BN', momentum='x'), "'x'", 'a number >= 0 and <= 1'),
    ('norm.momentum', norm('GN', momentum=0.1), 'is no key here', 'num_groups'),
    ('norm.eps', norm('BN', eps=-1), '-1', 'a number > 0 and < 1'),
    ('norm.eps', norm('GN', eps=INF), 'inf', 'a number > 0 and < 1'),
    ('norm.eps', norm('IN', eps=NAN), 'nan', 'a number > 0 and < 1'),
    ('norm.requires_grad', norm('BN', requires_grad='no'), "'no'", FLAG),
    ('norm.affine', norm('BN', affine=1), '1', FLAG),
    ('norm.track_running_stats', norm('BN', track_running_stats='no'), "'no'", FLAG),
    ('norm.num_features', norm('BN', num_features=3), 'is no key here', 'momentum'),
    ('norm.momentun', norm('BN', momentun=0.1), "Did you mean 'momentum'", 'is no key here'),
    ('norm.5', mgd(norm={'type': 'BN', 5: 1}), 'is no key here', 'eps'),
    ('norm', norm('LN'), "'LN' is not known", 'Or a norm_cfg'),
    ('warmup', dict(L2, end=5, warmup=6), '6 is too long', 'a whole number <= 5'),
    ('logits_weight', ifvd(logits_weight=0, variation_weight=0), 'it would never act', 'a number > 0'),
    ('temperature', kd(temperature=1e-30), '1e-30', 'a number > 0.001 and < 10000'),
    ('temperature', kd(temperature=1e38), '1e+38', 'a number > 0.001 and < 10000'),
    ('loss.temperature', feature(type='cwd', temperature=1e-37), '1e-37', 'a number > 0.001'),
    ('loss.power', feature(type='at', power=10 ** 6), '1000000', 'a whole number >= 1 and <= 16'),
    ('divisor', mgd(reduction='sum', divisor=1e-37), '1e-37', 'a number > 0.0001'),
    ('calibration_iters', dict(L2, loss_scale='auto', calibration_iters=10 ** 9), '1000000000', '<= 100000'),
    ('hidden', review(hidden=10 ** 6), '1000000', '<= 16384'),
    ('levels', review(levels=[10 ** 6]), '[1000000]', '<= 1024'),
    ('levels', review(levels=[4, 4]), '[4, 4]', 'different whole numbers'),
    ('loss_scale', dict(L2, loss_weight=3e38, loss_scale=10.0), 'out of the range of float32', 'factors whose product'),
    ('loss_scale', dict(L2, loss_weight=1e-30, loss_scale=1e-30), 'out of the range of float32', 'factors whose product'),
    ('pairs[0].student', dict(L2, pairs=[f'backbone[{DIGITS}]']), 'is not the address of a tap', '"module.path'),
    ('pairs[0].student', dict(L2, pairs=[f'backbone.layer4.-{DIGITS}']), 'is no module of the student', ' ... '),
    ('pairs[1].student', dict(L2, pairs=[LAYERS[0], 'backbone.layer9']), "'backbone.layer9' is no module of the student",
     'Did you mean'),
    ('pairs[0].teacher', dict(L2, pairs=[(LAYERS[0], 'backbone.layr3')]), 'is no module of the teacher', 'Did you mean'),
    ('pairs[0].student', dict(L2, pairs=['backbone.layer4[0]']), 'Leave the index out', 'of the student'),
    ('levels[1].teacher', dict(distpro(), levels=[LAYERS[0], (LAYERS[1], 'backbone.no')]), 'is no module of the teacher',
     'Did you mean'),
]


@pytest.mark.parametrize(('key', 'distiller', 'value', 'accepted'), DISTILLERS, ids=ids(DISTILLERS))
def test_a_distiller(key, distiller, value, accepted):
    caught(lambda: build(distilled(classifier(), one=distiller)), f'model.distillers.one.{key}', value, accepted)


@pytest.mark.parametrize('options', [
    dict(type='GN', num_groups=np.int64(2)), dict(type='BN', momentum=None, affine=False, track_running_stats=False),
    dict(type='IN', affine=True, requires_grad=False), 'GN', None], ids=['GN', 'BN', 'IN', 'name', 'none'])
def test_norms_that_stay_accepted(options):
    build(distilled(classifier(), one=mgd(norm=options)))


def optimiser(**options):
    return dict(optimizer=dict(type='Adam', **options))


OUT = 'Accepted: the name of a file, without a folder, that ends in .json'
HOOKS = [
    (AggregationSearchHook, 'optimizer.maximize', optimiser(maximize='no'), "'no'. " + FLAG),
    (AggregationSearchHook, 'optimizer.foreach', optimiser(foreach=0), '0. ' + FLAG),
    (AggregationSearchHook, 'optimizer.params', optimiser(params=[]), '[] says what is optimised'),
    (AggregationSearchHook, 'optimizer.lr', optimiser(lr=1e30), '1e+30. Accepted: a number >= 0 and < 1e+06'),
    (AggregationSearchHook, 'regularisation', dict(regularisation=1e38), '1e+38. Accepted: a number >= 0 and < 1e+06'),
    (ProcessSearchHook, 'lr', dict(lr=0), '0. Accepted: a number > 0 and < 1e+06'),
    *((ProcessSearchHook, 'out', dict(out=name), OUT) for name in (
        'last_checkpoint', 'epoch_1.pth', 'finished', 'x.json.tmp', '.json', 'a' * 240 + '.json', 'scalars.log',
        '\ud800.json')),
]


@pytest.mark.parametrize(('kind', 'key', 'options', 'fragment'), HOOKS, ids=[str(number) for number in range(len(HOOKS))])
def test_options_of_hooks(kind, key, options, fragment):
    caught(lambda: kind(**options), f'{kind.__name__}.{key}', fragment)


def test_the_longest_name_of_a_result_can_be_written(tmp_path):
    name = 'a' * (LONGEST_FILE_NAME - 5) + '.json'
    assert ProcessSearchHook(out=name).options.out == name
    write_whole(tmp_path / name, '{}')
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_whole_numbers_of_numpy_are_numbers():
    assert type(MatchingUpdateHook(interval=np.int64(1)).options.interval) is int
    assert MatchingUpdateHook(interval=(np.int64(1), 3)).options.interval == [1, 3]
    assert type(AggregationSearchHook(iterations=np.int64(5)).options.iterations) is int
    randomness = dict(seed=np.int64(3))
    check_environment(dict(randomness=randomness))
    assert type(randomness['seed']) is int


MODELS_ = [
    ('model.image_shape', {**distilled(classifier()), 'image_shape': (3, 10 ** 6, 9)}, 'whole numbers > 0 and <= 8192'),
    ('model.image_shape', {**distilled(classifier()), 'image_shape': (8192, 8192, 8192)}, 'is too large for a dry run'),
]


@pytest.mark.parametrize(('path', 'cfg', 'fragment'), MODELS_, ids=ids(MODELS_))
def test_images_of_the_dry_run(path, cfg, fragment):
    caught(lambda: build(cfg), path, fragment)


PREPROCESSOR = 'model.teacher.config.model.data_preprocessor'
SEEN = [
    (f'{PREPROCESSOR}.std', dict(mean=[0.] * 3, std=[0.] * 3), '[0.0, 0.0, 0.0]', 'finite numbers > 0'),
    (f'{PREPROCESSOR}.std', dict(mean=[0.] * 3, std=[-1.] * 3), '[-1.0, -1.0, -1.0]', 'finite numbers > 0'),
    (f'{PREPROCESSOR}.mean', dict(mean=[NAN] * 3, std=[1.] * 3), 'nan', 'finite numbers'),
    (PREPROCESSOR, dict(mean=[1.], std=[1., 2., 3.]), '1 numbers in mean and 3 in std', 'as many in both'),
]


@pytest.mark.parametrize(('path', 'numbers', 'given', 'accepted'), SEEN, ids=[str(number) for number in range(len(SEEN))])
def test_what_the_teacher_is_shown(path, numbers, given, accepted):
    config = classifier(16)
    config['data_preprocessor'] = dict(type='ClsDataPreprocessor', **numbers)
    caught(lambda: build(distilled(classifier(), config, one=L2)), path, given, accepted)


def test_a_teacher_with_negative_variances_is_refused(tmp_path):
    weights = build(classifier(16)).state_dict()
    name = next(name for name in weights if name.endswith('running_var'))
    weights[name][0] = -1
    torch.save(dict(state_dict=weights), tmp_path / 'teacher.pth')
    cfg = distilled(classifier(), teacher_options=dict(checkpoint=str(tmp_path / 'teacher.pth')), one=L2)
    caught(lambda: build(cfg), 'model.teacher.checkpoint', f'negative variances, whose root is NaN, in {name}')


def test_what_a_teacher_gives_is_not_the_fault_of_the_student():
    nan = torch.tensor([NAN])
    with pytest.raises(DistillationError, match='of the teacher held NaN') as found:
        NonFiniteWatch().look(dict(student=dict(a=nan), teacher=dict(b=nan)), 3)
    assert found.value.path == 'model.teacher.checkpoint'


@MODELS.register_module(force=True)
class OfOnesOwn(FeatureDistiller):
    """Returns what the test says, of the first feature."""
    returns = staticmethod(lambda feature: {})

    def forward(self, student, teacher, batch):
        return self.returns(next(iter(student.values())))


RETURNS = dict(
    none=(lambda f: None, 'a NoneType'), list=(lambda f: [f.mean()], 'a list'), tensor=(lambda f: f.mean(), 'a Tensor'),
    empty=(lambda f: {}, 'an empty dict'), number=(lambda f: {'loss_a': 1.0}, "a float as 'loss_a'"),
    lists=(lambda f: {'loss_a': [f.mean()]}, "a list as 'loss_a'"), name=(lambda f: {'a': f.mean()}, "by the name of 'a'"),
    key=(lambda f: {5: f.mean()}, 'by the name of 5'), detached=(lambda f: {'loss_a': f.mean().detach()}, 'teach nothing'),
    whole=(lambda f: {'loss_a': f.mean().long()}, 'of torch.int64'), map=(lambda f: {'loss_a': f}, 'with the shape'))


@pytest.mark.parametrize(('returned', 'problem'), RETURNS.values(), ids=RETURNS)
def test_what_a_distiller_of_ones_own_returns(tmp_path, monkeypatch, returned, problem):
    monkeypatch.setattr(OfOnesOwn, 'returns', staticmethod(returned))
    cfg = run_cfg(distilled(classifier(), own=dict(type='mmkd.OfOnesOwn', pairs=LAYERS)), tmp_path, length=2)
    caught(lambda: run(cfg), 'model.distillers.own', problem,
           "Accepted: a dict of scalar tensors whose names contain 'loss', with a gradient")


def empty():
    return loader('mmpretrain', 0)


RUNS = [
    ('model.distillers.one.warmup', dict(model=distilled(classifier(), one=dict(L2, warmup=3))), '3 is too long'),
    ('model.distillers.one.bias', dict(model=distilled(classifier(), one=distpro(
        'constant', values=[1, 1, 1], bias=1e4, tau=None))), 'it would never act'),
    ('model.distillers.one.normalisation', dict(model=distilled(classifier(), one=distpro(
        'constant', values=[0, 0, 0], normalisation='l1', tau=None))), 'it would never act'),
    ('train_cfg', dict(changes={'train_cfg.max_epochs': 0}), 'a run of 0 iterations'),
    ('randomness.deterministic', dict(randomness=dict(seed=0, deterministic='x')), "'x'. " + FLAG),
    ('randomness.seed', dict(randomness=dict(deterministic=True)), 'is missing'),
    ('MatchingUpdateHook.dataloader', dict(model=distilled(classifier()), hooks=[update_hook('mmpretrain', dataloader={
        **loader('mmpretrain'), 'sampler': 5})]), 'cannot be built (TypeError'),
    ('MatchingUpdateHook.dataloader', dict(model=distilled(classifier()), hooks=[update_hook('mmpretrain', dataloader={
        **loader('mmpretrain', 2, 4), 'drop_last': True})]), 'no whole batch'),
    ('model.student.backbone.init_cfg.checkpoint', dict(changes={'model.student.backbone.init_cfg': dict(
        type='Pretrained', checkpoint='/no/weights.pth')}), '/no/weights.pth'),
    ('model.data_preprocessor', dict(changes={'model.data_preprocessor': dict(type='ClsDataPreprocessor', mean=[1.] * 3,
                                                                             std=[2.] * 3)}), 'is not what the student has'),
]


@pytest.mark.parametrize(('path', 'given', 'fragment'), RUNS, ids=ids(RUNS))
def test_a_run(tmp_path, path, given, fragment):
    given = dict(given)
    changes = given.pop('changes', {})
    cfg, start = started(tmp_path, **given)
    cfg.merge_from_dict(changes)
    caught(start, path, fragment)


def test_a_search_without_images(tmp_path):
    caught(lambda: run(search_cfg(tmp_path, length=4, hook=dict(dataloader=empty()))), 'ProcessSearchHook.dataloader',
           'cannot be built (ZeroDivisionError')


def test_a_search_on_samples_of_another_codebase(tmp_path):
    cfg = search_cfg(tmp_path, length=4, hook=dict(dataloader=loader('mmseg', 4)))
    error = caught(lambda: run(cfg), 'ProcessSearchHook.dataloader', 'gt_label', 'as train_dataloader has them')
    assert isinstance(error.__cause__, AttributeError)


@pytest.mark.parametrize('kind', ['SparseAdam', 'LBFGS'])
def test_optimisers_that_a_search_cannot_use(tmp_path, kind):
    hooks = [hook(optimizer=dict(type=kind, lr=.1))]
    caught(lambda: search_run(tmp_path, hooks=hooks), 'AggregationSearchHook.optimizer.type', kind, 'takes a gradient')
