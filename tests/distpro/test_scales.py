"""One scale for all members: with it, weight 1 means a gradient as large as the task loss's; and the total."""
import json
import math

import pytest
import torch
from distpro_runs import distpro, endless, hook_of, interrupted, pool, pool_cfg
from distpro_truth import batch, smooth_model
from mmengine.logging import MessageHub
from zoo import build, classifier, distilled, run

from mmkd_plugin.distiller import GradientComparison
from mmkd_plugin.distpro.scales import MemberScales
from mmkd_plugin.distpro.weights import NORMALISATIONS
from mmkd_plugin.utils.errors import DistillationError

OTHERS = dict(kd=dict(type='mmkd.LogitsDistiller', pairs=['head'], temperature=2, loss_weight=.5),
              cwd=dict(type='mmkd.FeatureDistiller', pairs=['stage1', 'stage2'], loss='cwd'))


def gradients(model, loss, taps):
    """The gradient of a loss at modules of the student, all together."""
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, taps, retain_graph=True)]).norm()


def test_a_scale_is_the_ratio_of_the_two_gradients_at_the_taps_of_the_member():
    model = smooth_model(OTHERS, members=['kd', 'cwd.loss_stage1', 'cwd.loss_stage2'], scale_iters=1, transforms='conv1',
                         mode='equal')
    features = {}
    for name in ('stage1', 'stage2', 'head'):
        getattr(model, name).register_forward_hook(lambda module, args, output, name=name: features.update({name: output}))
    losses = model(**batch(0), mode='loss')
    distiller = model.distillation.distpro
    assert distiller.scales.finished
    assert len(distiller.members) == 6
    taps = dict(kd='head', cwd_stage1='stage1', cwd_stage2='stage2')
    scales = dict(zip(taps, distiller.member_scales()[3:]))
    for (name, tap), key in zip(taps.items(), ('kd.loss_kd', 'cwd.loss_stage1', 'cwd.loss_stage2')):
        task, weighted = (gradients(model, losses[one], [features[tap]]) for one in ('student.loss', key))
        # The loss has its scale and its weight already, 1 of 6, and for kd the distiller's own, which comes on top.
        assert float(weighted / task) == pytest.approx((.5 if name == 'kd' else 1) / 6, rel=1e-5)
        assert scales[name] != 1


def test_scales_are_found_before_the_importance_moves_are_in_the_file_and_are_replayed(tmp_path):
    distillers = pool(members=['kd', 'l2'], scales='auto')
    runner, _ = run(pool_cfg(tmp_path / 'search', distillers, length=8, hook=dict(lr=.3)))
    content = json.loads((tmp_path / 'search/process.json').read_text())
    assert content['importance'][:2] == [[1.] * 5, [1.] * 5]
    assert content['importance'][2] != [1.] * 5
    assert hook_of(runner).search.steps == 3
    assert content['scales'] == runner.model.distillation.distpro.member_scales()
    assert not any(scale == 1 for scale in content['scales'])
    MessageHub._instance_dict.clear()
    replay = pool('process', ['kd', 'l2'], scales='auto', process=str(tmp_path / 'search/process.json'))
    replayed, _ = run(pool_cfg(tmp_path / 'replay', replay, length=2))
    assert replayed.model.distillation.distpro.scales is None
    assert replayed.model.distillation.distpro.constants == pytest.approx(content['scales'])


@pytest.mark.parametrize(('ratios', 'settled'), [([2., 2., 2., 2.], True), ([2., 2., 4., 9.], False)],
                         ids=['steady', 'moving'])
def test_whether_a_scale_has_settled_is_asked_of_the_window_of_a_short_search(ratios, settled):
    scales = MemberScales(['kd'], 100)
    assert scales.in_search(40) == 4
    for ratio in ratios:
        scales.observe(dict(kd=GradientComparison(1., ratio ** 2, 0.)), 'model.distillers.distpro')
    assert scales.finished
    assert scales.calibrations[0].settled == settled
    assert scales.values() == [pytest.approx(1 / math.sqrt(ratios[2] * ratios[3]))]


@pytest.mark.parametrize(('given', 'first', 'second'), [(None, 5, 2000), (4, 4, 4)], ids=['until settled', 'given'])
def test_after_a_search_there_is_a_second_window_which_a_resumed_run_goes_on_with(given, first, second):
    def observe(scales, times, ratio):
        for _ in range(times):
            scales.observe(dict(kd=GradientComparison(1., ratio ** 2, 0.)), 'model.distillers.distpro')

    def after_a_search():
        scales = MemberScales(['kd'], given)
        assert scales.in_search(50) == first
        return scales

    scales = after_a_search()
    observe(scales, first, 10.)
    assert (scales.finished, scales.values()) == (True, [pytest.approx(.1)])
    scales.go_on()
    assert (scales.finished, scales.values(), scales.calibrations[0].limit) == (False, [pytest.approx(.1)], first + second)
    observe(scales, 2, 1.)
    resumed = after_a_search()
    resumed.load_state_dict(scales.state_dict())
    resumed.go_on()
    for each in (scales, resumed):
        assert (each.moving(), each.of_search()) == (['kd'], [pytest.approx(.1)])
        observe(each, 198 if given is None else 2, 1.)
        assert (each.finished, each.values()) == (True, [1.])  # of 200 equal ones no more are needed
    ended = after_a_search()
    ended.load_state_dict(scales.state_dict())
    ended.go_on()
    assert (ended.finished, ended.moving(), ended.of_search()) == (True, [], [pytest.approx(.1)])


def test_a_member_that_has_a_scale_keeps_it_where_its_gradient_is_gone():
    scales = MemberScales(['kd'], 4)
    scales.in_search(50)
    for distillation in (4., 4., 4., 4.):
        scales.observe(dict(kd=GradientComparison(1., distillation, 0.)), 'model.distillers.distpro')
    scales.go_on()
    for _ in range(9):
        scales.observe(dict(kd=GradientComparison(1., 0., 0.)), 'model.distillers.distpro')
    assert (scales.values(), scales.finished, scales.moving()) == ([pytest.approx(.5)], False, [])


def test_scales_that_move_to_the_end_of_a_run_are_said(tmp_path):
    run(pool_cfg(tmp_path, pool('equal', ['kd', 'l2'], scales='calibrated', scale_iters=50), length=2))
    assert 'were not settled in this run' in next(tmp_path.glob('*/*.log')).read_text()


@pytest.mark.slow
@pytest.mark.parametrize('iteration', [6, 10], ids=['before it has settled', 'after'])
def test_a_replay_with_a_pruned_member_that_is_interrupted_is_the_uninterrupted_one(tmp_path, iteration):
    def cfg(folder, **options):
        distiller = pool('search', ['kd', 'l2'], scales='calibrated', scale_iters=3, tau=1.0)
        made = endless(pool_cfg(folder, distiller, hook=dict(until=.5, lr=.05), **options))
        made.train_cfg.max_iters = 12
        made.default_hooks.checkpoint.interval = 1
        return made

    whole, resumed, losses, both = interrupted(cfg, tmp_path, iteration)
    scales = whole.model.distillation.distpro.scales
    assert {bool(calibration.finished) for calibration in scales.calibrations} == {True, False}  # those of pruned ones never
    assert both == losses
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


@pytest.mark.slow
def test_a_search_that_is_interrupted_while_scales_are_found_is_the_uninterrupted_one(tmp_path):
    def cfg(folder, **options):
        made = endless(pool_cfg(folder, pool(scales='calibrated'), **options))
        made.train_cfg.max_iters = 24
        made.default_hooks.checkpoint.interval = 1
        return made

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 1)
    assert hook_of(whole).search.distiller.scales.calibrations[0].limit == 2
    assert both == losses
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


@pytest.mark.parametrize('normalisation', [*NORMALISATIONS, None])
def test_the_total_is_what_all_weigh_together_while_they_are_equally_important(normalisation):
    options = dict(mode='equal')
    if normalisation is not None:
        options = dict(mode='constant', values=[1.] * 4, normalisation=normalisation)
    distiller = smooth_model(total=3., transforms=['conv1'], connections='all', **options).distillation.distpro
    assert sum(distiller.importance.weights(0).values()) * distiller.scale_at(0) == pytest.approx(3)


def test_without_a_total_ten_pathways_weigh_what_the_paper_and_the_release_have():
    for scaled, expected in ((False, 10 / 11), (True, 100 / 11)):
        levels = [f'backbone.layer{level}' for level in range(1, 5)]
        model = build(distilled(classifier(), distpro=distpro('constant', values=[1.] * 10, scale_by_pathways=scaled,
                                                              levels=levels)))
        distiller = model.distillation.distpro
        assert sum(distiller.importance.weights(0).values()) * distiller.scale_at(0) == pytest.approx(expected)
        assert math.isclose(expected, .91 if not scaled else 9.09, abs_tol=.01)


@pytest.mark.parametrize(('options', 'said'), [
    (dict(scales=[1., 2.]), 'distpro.scales: .*Accepted: 3 numbers > 0'),
    (dict(scales='found'), 'distpro.scales: .*calibrated'), (dict(total=0), 'distpro.total: 0'),
    (dict(total=1., scale_by_pathways=True), 'distpro.total: .*beside scale_by_pathways')])
def test_what_does_not_fit_is_one_error(options, said):
    with pytest.raises(DistillationError, match=said):
        build(distilled(classifier(), distpro=distpro('equal', **options)))
