"""What to try next: each rule with a run that asks for it, and none where all is well."""
import math

import pytest
import torch
from made_runs import DISTILLED, STUDENT, line, make_run, numbers

from mmkd_plugin.dfa.artefact import write_aggregation
from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways
from mmkd_plugin.report.advice import advise
from mmkd_plugin.report.compare import compare

COST = 'images on this rank in 0.1 s, solved in 0.1 s; mean cost of matched channels (0 to 4): mgd.layer4'
RATIO = 'mgd.gradient_ratio'


def keys(*folders, **given):
    return [advice.key for advice in advise(compare(folders, **given))]


def logged(**values):
    return [dict(each, **values) if 'iter' in each else each for each in numbers()]


def test_where_all_is_well_nothing_is_said(tmp_path):
    run = make_run(tmp_path / 'run', lines=numbers())
    other = make_run(tmp_path / 'other', lines=numbers(), seed=1)
    assert keys(run, other, alone=['40', '41'], teacher=['80']) == []


CASES = dict(
    weak=(dict(lines=logged(**{RATIO: .01})), 'model.distillers.mgd.loss_weight'),
    strong=(dict(lines=logged(**{RATIO: 50.})), 'model.distillers.mgd.loss_weight'),
    against=(dict(lines=logged(**{'mgd.gradient_cosine': -.5})), 'model.distillers.mgd.end'),
    unknown=(dict(lines=numbers(), model=dict(DISTILLED, distillers=dict(at=dict(type='mmkd.FeatureDistiller')))),
             'model.distillers.at.loss_scale'),
    unsettled=(dict(lines=numbers(), log=[line('model.distillers.kd: the scale had not settled then. Look', 'WARNING')]),
               'model.distillers.kd.calibration_iters'),
    moving=(dict(lines=numbers(), log=[line("model.distillers.kd: the calibration of loss_scale='auto' was not finished",
                                            'WARNING')]), 'model.distillers.kd.calibration_iters'),
    unsettled_in_a_pool=(dict(lines=numbers(), log=[
        line('model.distillers.auto, auto_kd: the scale had not settled then.', 'WARNING')]), 'model.distillers.auto'),
    moving_in_a_pool=(dict(lines=numbers(), log=[
        line('model.distillers.auto: the scales of auto_kd were not settled in this run', 'WARNING')]),
        'model.distillers.auto'),
    infinite=(dict(lines=logged(**{'decode.loss_ce': math.nan})), 'optim_wrapper.clip_grad'),
    killed=(dict(lines=numbers(), length=400, checkpoint=False), '--resume'),
    unvalidated=(dict(lines=numbers(metrics=())), 'val_dataloader'),
    waiting=(dict(lines=logged(data_time=.09)), 'train_dataloader.num_workers'),
    diverging=(dict(lines=numbers(), log=[line(f'matching update after {step} iterations: 8 {COST} {cost}')
                                          for step, cost in ((0, 1.), (20, 1.1), (40, 1.2))]),
               'model.distillers.mgd.loss_weight'),
    falling=(dict(lines=numbers(metrics=(40., 60., 61., 50.))), 'default_hooks.checkpoint.save_best'),
    rising=(dict(lines=numbers(metrics=(40., 50., 55., 61.))), 'train_cfg'))


@pytest.mark.parametrize('case', CASES)
def test_a_rule_names_its_key(tmp_path, case):
    made, key = CASES[case]
    assert key in keys(make_run(tmp_path / 'run', **made), alone=['40', '41'], teacher=['80'])


@pytest.mark.parametrize(('given', 'key'), [
    (dict(alone=['60', '60.9'], teacher=['80']), 'randomness.seed'), (dict(alone=['60'], teacher=['80']), 'randomness.seed'),
    (dict(alone=['70'], teacher=['80']), 'model.distillers'), (dict(alone=['40'], teacher=['60']), 'model.teacher')])
def test_a_result_that_says_little_is_called_so(tmp_path, given, key):
    assert key in keys(make_run(tmp_path / 'run', lines=numbers()), **given)


def test_a_slow_iteration_is_compared_with_that_of_the_student_alone(tmp_path):
    run = make_run(tmp_path / 'run', lines=logged(time=.5))
    alone = make_run(tmp_path / 'alone', STUDENT, numbers())
    assert 'model.teacher.runtime' in keys(run, alone=[str(alone)])


@pytest.mark.parametrize(('last', 'wanted'), [([9., 0, 0, 0], True), ([0., 0, 0, 0], True), ([1., .5, 0, 0], False)])
def test_a_process_that_ends_on_one_pathway_or_where_it_began_is_named(tmp_path, last, wanted):
    run = make_run(tmp_path / 'run', lines=numbers())
    pathways = make_pathways(['t1', 't2'], ['s1', 's2'], 'all', ['conv1'])
    importance = torch.tensor([[0.] * 4, last]).double()
    write_process(run / 'process.json', Process(pathways, 'softmax', 1., None, importance, 2))
    assert ('search.hook.lr' in keys(run, alone=['40', '41'], teacher=['80'])) == wanted


@pytest.mark.parametrize(('weights', 'wanted'), [([.97, .03], True), ([.52, .48], True), ([.7, .3], False)])
def test_a_group_that_ends_on_one_layer_or_where_it_began_is_named(tmp_path, weights, wanted):
    run = make_run(tmp_path / 'run', lines=numbers())
    (run / 'search').mkdir()
    group = dict(name='layer1', student='s', teacher=['t', 'u'], weights=weights)
    write_aggregation(run / 'search/aggregation.json', [group], dict(model='M', sha256='x'), {}, {}, {})
    assert ('search.hook.optimizer.lr' in keys(run, alone=['40', '41'], teacher=['80'])) == wanted
