"""Distillation that need not run every step: what it costs, how strong it is, and that it is a function of the iteration."""
import json
from dataclasses import dataclass

import pytest
import torch
from mmengine.hooks import Hook
from nonsense import L2, caught, distpro, ids, kd, started
from resume_runs import differences, interrupted, iterations_cfg, with_drops
from zoo import (
    STUDENTS,
    batch,
    build,
    classifier,
    dfa,
    distilled,
    mgd,
    run,
    run_cfg,
    update_hook,
)

from mmkd_plugin.baselines import FeatureDistiller
from mmkd_plugin.dfa import FeatureAggregationDistiller
from mmkd_plugin.distiller import Batch
from mmkd_plugin.model.portions import drawn_order
from mmkd_plugin.utils.errors import DistillationError

LAYER4 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])
LAYER3 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'])


class Watching(Hook):
    """Notes for every iteration what the teacher sees, and how many hooks are on what the student's tap is."""

    def before_train(self, runner):
        self.teacher, self.hooks = [], []
        distillation = runner.model.distillation
        distillation.teacher.model.backbone.register_forward_pre_hook(
            lambda module, args: self.teacher[-1].append(args[0].detach().clone()))
        tapped = runner.model.backbone.layer4
        runner.model.backbone.register_forward_pre_hook(
            lambda module, args: self.hooks.append(len(tapped._forward_hooks)))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.teacher.append([])


def watched(tmp_path, batch_size=4, iterations=6, **distillers):
    cfg = run_cfg(distilled(classifier(), **distillers), tmp_path, length=batch_size * iterations)
    cfg.train_dataloader.batch_size = batch_size
    watching = Watching()
    runner, losses = run(cfg, before=lambda runner: runner.register_hook(watching))
    return watching, losses, runner


def named(losses, name):
    """In which iterations a distiller has losses."""
    return [iteration for iteration, found in enumerate(losses) if any(key.startswith(f'{name}.') for key in found)]


def test_the_teacher_runs_in_every_kth_iteration_on_a_part_of_the_batch(tmp_path):
    watching, losses, _ = watched(tmp_path, l2=dict(LAYER4, every=3, begin=1, fraction=.5))
    assert named(losses, 'l2') == [1, 4]
    assert [[len(images) for images in seen] for seen in watching.teacher] == [[], [2], [], [], [2], []]
    assert watching.hooks == [0, 1, 0, 0, 1, 0], 'where it does not act there are no hooks'


def test_several_distillers_share_one_forward_on_the_largest_part(tmp_path):
    watching, losses, _ = watched(tmp_path, small=dict(LAYER4, fraction=.25), large=dict(LAYER3, fraction=.75, every=2))
    assert [[len(images) for images in seen] for seen in watching.teacher] == [[3], [1]] * 3
    assert (named(losses, 'small'), named(losses, 'large')) == (list(range(6)), [0, 2, 4])


@pytest.mark.slow
def test_the_first_losses_are_those_of_every_iteration_times_k(tmp_path):
    first = {}
    for every, options in ((1, {}), (2, {}), ('as it is', dict(scale_by_every=False))):
        cfg = run_cfg(distilled(classifier(), l2=dict(LAYER4, every=every if options == {} else 2, **options)),
                      tmp_path / str(every), length=6)
        first[every] = run(cfg)[1][0]['l2.loss_layer4']
    assert first[2] == 2 * first[1]
    assert first['as it is'] == first[1]


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(every=3), [6, 0, 0, 6, 0, 0, 6, 0]), (dict(every=3, scale_by_every=False), [2, 0, 0, 2, 0, 0, 2, 0]),
    (dict(every=3, begin=2), [0, 0, 6, 0, 0, 6, 0, 0]), (dict(every=3, begin=1, end=7), [0, 6, 0, 0, 6, 0, 0, 0]),
    (dict(every=2, warmup=4, begin=1), [0, 1, 0, 3, 0, 4, 0, 4]), (dict(every=1), [2] * 8)])
def test_the_weight_is_a_function_of_the_iteration(options, expected):
    distiller = FeatureDistiller(pairs=['backbone.layer4'], loss_weight=2., **options)
    assert [distiller.weight_at(iteration) for iteration in range(8)] == expected


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(every=3, begin=1, log_gradients=2), [1, 4, 7, 10]), (dict(every=2, begin=1, log_gradients=4), [1, 5, 9]),
    (dict(every=3, log_gradients=4), [0, 6, 9]), (dict(log_gradients=4), [0, 4, 8])])
def test_gradients_are_logged_the_first_time_it_acts_from_a_multiple_on(options, expected):
    distiller = FeatureDistiller(pairs=['backbone.layer4'], **options)
    assert [iteration for iteration in range(12) if distiller.weight_at(iteration) > 0
            and distiller.strength.compares(iteration)] == expected


def test_the_scale_is_calibrated_in_the_iterations_in_which_it_acts(tmp_path):
    options = dict(loss_scale='auto', calibration_iters=3, log_gradients=1)
    _, losses, runner = watched(tmp_path, l2=dict(LAYER4, every=2, fraction=.5, **options))
    calibration = runner.model.distillation.l2.strength.calibration
    assert int(calibration.counted) == 3
    assert calibration.finished
    assert [iteration for iteration, found in enumerate(losses) if 'l2.gradient_ratio' in found] == [0, 2, 4]


def test_a_part_of_equal_images_has_the_ratio_and_the_losses_of_the_batch(tmp_path):
    # With the same image everywhere, what is measured on a part of the batch is what the batch gives.
    found = {}
    for fraction in (1., .5, .25):
        model = build(distilled(classifier(), l2=dict(LAYER4, fraction=fraction, log_gradients=1)))
        torch.manual_seed(3)
        for parameter in (*model.parameters(), *model.distillation.teacher.model.parameters()):
            torch.nn.init.normal_(parameter, std=.1)
        model.eval()
        data = model.data_preprocessor(batch('mmpretrain', 1), True)
        data = dict(inputs=data['inputs'].expand(4, -1, -1, -1), data_samples=data['data_samples'] * 4)
        losses = model(**data, mode='loss')
        found[fraction] = [float(losses[f'l2.{name}']) for name in ('loss_layer4', 'gradient_ratio', 'gradient_cosine')]
    assert found[.5] == pytest.approx(found[1.], rel=1e-4)
    assert found[.25] == pytest.approx(found[1.], rel=1e-4)


def padded_batch():
    """Four images of different sizes, so that three of them are padded."""
    data = batch('mmdet', 4)
    for number, (image, sample) in enumerate(zip(data['inputs'], data['data_samples'])):
        height, width = 64 - 8 * number, 64 - 12 * number
        data['inputs'][number] = image[:, :height, :width].contiguous()
        sample.set_metainfo(dict(img_shape=(height, width), pad_shape=(height, width)))
    return data


COMPARED = dict(
    mmseg=dict(mgd=mgd(norm='GN', mask_padding=True), kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg']),
               ifvd=dict(type='mmkd.IFVDDistiller')),
    mmdet=dict(mgd=mgd(norm='GN'), fgd=dict(type='mmkd.FeatureDistiller', pairs=['neck[0]'], loss='fgd'),
               dfa=dfa('distill', ['backbone.layer3'], aggregation='last', connector_norm=None)),
    mmpretrain=dict(kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], loss='wsld'),
                    distpro=dict(type='mmkd.DistProDistiller', mode='equal', transforms='conv1',
                                 levels=['backbone.layer2', 'backbone.layer3'])))


@pytest.mark.parametrize('scope', list(STUDENTS))
def test_a_part_is_what_a_batch_of_these_images_would_be(scope):
    # Padding, boxes, labels and features belong to the images that are looked at.
    distillers = {name: dict(options, fraction=.5) for name, options in COMPARED[scope].items()}
    model = build(distilled(STUDENTS[scope](), **distillers))
    for stage in model.distillation.mgd.matched_stages() if 'mgd' in distillers else ():
        stage.assignment.copy_(torch.arange(stage.assignment.numel()).view_as(stage.assignment))
        stage.matched = True
    model.eval()  # batch statistics would be of all images
    data = model.data_preprocessor(padded_batch() if scope == 'mmdet' else batch(scope, 4), False)
    losses = model(**data, mode='loss')
    images = drawn_order(4, 0, 0)[:2]
    part = Batch(data['inputs'][images], [data['data_samples'][image] for image in images], 0)
    compared = 0
    for name, distiller in model.distillation.distillers.items():
        with torch.no_grad():
            expected = distiller(*model.distillation.features(model, part, [name]), part)
        for key, value in expected.items():
            compared += 1
            torch.testing.assert_close(losses[f'{name}.{key}'].detach(), value, rtol=1e-4, atol=0)
    assert compared >= len(distillers)


def thinned(folder, **options):
    """Nested parts, some not in every iteration, one with a scale that is being found."""
    model = distilled(classifier(4), classifier(4), l2=dict(LAYER3, every=2, fraction=.5, loss_scale='auto',
                                                            calibration_iters=2, warmup=3),
                      kd=dict(kd(), fraction=.75))
    cfg = iterations_cfg(folder, length=12, model=model, **options)
    cfg.train_dataloader.batch_size = 4
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('iteration', [1, 2], ids=['after it acts', 'before it acts'])
def test_a_resumed_run_is_bit_equal(iteration, tmp_path):
    whole, resumed, expected, later = interrupted(thinned, tmp_path, iteration=iteration)
    assert later == expected
    assert differences(whole, resumed) == []


@pytest.mark.slow
def test_the_generators_end_as_without_it(tmp_path):
    def end(name, **options):
        model = distilled(classifier(4), classifier(4), l2=dict(LAYER3, **options))
        return run(iterations_cfg(tmp_path / name, model=model), before=with_drops)[0].generators_at_the_end

    assert torch.equal(end('thinned', every=2, fraction=.5), end('all'))


def test_with_a_weight_of_0_the_run_is_the_plain_students(tmp_path):
    student = classifier(4)
    plain, expected = run(run_cfg(student, tmp_path / 'plain'))
    model = distilled(student, l2=dict(LAYER4, every=2, fraction=.5, loss_weight=0.))
    runner, losses = run(run_cfg(model, tmp_path / 'zero'))
    assert losses == expected
    assert all(torch.equal(value, runner.model.state_dict()[name]) for name, value in plain.model.state_dict().items())


@pytest.mark.slow
def test_an_iteration_in_which_it_does_not_act_is_the_plain_students(tmp_path):
    student = classifier(4)
    plain, expected = run(run_cfg(student, tmp_path / 'plain', length=8))
    runner, losses = run(run_cfg(distilled(student, l2=dict(LAYER4, begin=2, every=9, loss_weight=0.)), tmp_path / 'late',
                                 length=8))
    assert losses == expected
    acting, losses = run(run_cfg(distilled(student, l2=dict(LAYER4, begin=1, every=2)), tmp_path / 'acting', length=8))
    assert losses[0] == expected[0]
    assert losses[1] != expected[1]


@pytest.mark.slow
def test_the_matching_is_found_on_its_own_images_whatever_is_left_out(tmp_path):
    assignments = []
    for name, options in dict(all={}, thinned=dict(every=2, fraction=.5)).items():
        # No weight: the student is the same in both runs.
        cfg = run_cfg(distilled(classifier(), mgd=mgd(loss_weight=0., **options)), tmp_path / name, epochs=2,
                      hooks=[update_hook('mmpretrain')])
        runner, _ = run(cfg)
        assignments.append([stage.assignment for stage in runner.model.distillation.mgd.matched_stages()])
    assert all(torch.equal(one, other) for one, other in zip(*assignments))


@pytest.mark.slow
def test_a_process_is_replayed_by_the_global_iteration(tmp_path):
    def weights(name, **options):
        path = tmp_path / 'process.json'
        path.write_text(json.dumps(dict(
            format='mmkd.process', version=1, unit='iter', length=6, every=1, normalisation='l1', bias=0.0, tau=None,
            meta={}, pathways=[dict(student='backbone.layer3', teacher='backbone.layer3', transform='conv1'),
                      dict(student='backbone.layer3', teacher='backbone.layer4', transform='conv1')],
            importance=[[1.0 + step, 1.0] for step in range(6)])))
        model = distilled(classifier(4), classifier(4), distpro=dict(
            type='mmkd.DistProDistiller', levels=['backbone.layer3', 'backbone.layer4'], transforms='conv1',
            connections=[('backbone.layer3', 'backbone.layer3'), ('backbone.layer3', 'backbone.layer4')],
            process=str(path), **options))
        seen = {}

        class Weights(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                if any(key.startswith('distpro.') for key in outputs):
                    seen[runner.iter] = dict(runner.model.distillation.distpro.importance._memo[1])

        run(run_cfg(model, tmp_path / name, length=12), before=lambda runner: runner.register_hook(Weights()))
        return seen

    everywhere, thinned = weights('all'), weights('thinned', every=2, begin=1)
    assert list(thinned) == [1, 3, 5]
    assert thinned == {iteration: everywhere[iteration] for iteration in thinned}
    assert len({tuple(each.values()) for each in everywhere.values()}) == 6


OPTIONS = [
    ('every', dict(every=0), '0. Accepted: a whole number > 0'), ('every', dict(every=1.5), '1.5. Accepted: a whole number'),
    ('every', dict(every=True), 'True. Accepted: a whole number'), ('every', dict(every=None), 'None. Accepted: a whole'),
    ('fraction', dict(fraction=0), '0. Accepted: a number > 0 and <= 1'),
    ('fraction', dict(fraction=1.01), '1.01. Accepted: a number > 0 and <= 1'),
    ('fraction', dict(fraction='1/2'), "'1/2'. Accepted: a number > 0 and <= 1"),
    ('scale_by_every', dict(scale_by_every=False), 'False has no meaning with every=1. Accepted: True, or every > 1'),
    ('scale_by_every', dict(every=2, scale_by_every=2), '2. Accepted: True or False'),
    ('every', dict(every=6, begin=5, end=10),
     '6 is too long: from iteration 5 on there are 5, so it would act just once. Accepted: a whole number > 0 and <= 4'),
    ('warmup', dict(every=4, end=12, warmup=10), '10 is too long', 'a whole number <= 9'),
    ('calibration_iters', dict(every=4, end=12, loss_scale='auto', calibration_iters=4),
     "'auto' takes 4 iterations at least, but the distiller acts in 3 (begin 0, end 12, every 4)"),
    ('loss_scale', dict(every=10, loss_weight=1e20, loss_scale=1e18),
     'times loss_weight 1e+20 and every 10 is out of the range of float32'),
    ('fractoin', dict(fractoin=.5), "Did you mean 'fraction'")]


@pytest.mark.parametrize('case', OPTIONS, ids=ids(OPTIONS))
def test_a_wrong_option_is_one_error(case):
    key, options, *fragments = case
    caught(lambda: build(distilled(classifier(), one=dict(L2, **options))), f'model.distillers.one.{key}', *fragments)


RUNS = [
    ('every', dict(every=3), '3 is too long: from iteration 0 on there are 2', 'a whole number > 0 and <= 1'),
    ('every', dict(every=2), '2 is too long: from iteration 0 on there are 2, so it would act just once', '> 0 and <= 1'),
    ('every', dict(every=2, begin=1), '2 is too long: from iteration 1 on there are 1', 'a whole number > 0 and <= 1'),
    ('warmup', dict(warmup=3), '3 is too long', 'a whole number <= 2')]


@pytest.mark.parametrize('case', RUNS, ids=ids(RUNS))
def test_what_does_not_fit_the_run_is_told_before_it_begins(case, tmp_path):
    key, options, *fragments = case
    _, start = started(tmp_path, distilled(classifier(), one=dict(L2, **options)))
    caught(start, f'model.distillers.one.{key}', *fragments)


def test_without_a_weight_no_length_is_too_long(tmp_path):
    losses = run(run_cfg(distilled(classifier(4), one=dict(L2, every=9, loss_weight=0)), tmp_path, length=2))[1]
    assert len(losses) == 1


@pytest.mark.parametrize('options', [dict(every=2), dict(fraction=.5), dict(every=2, scale_by_every=False)],
                         ids=['every', 'fraction', 'scale'])
@pytest.mark.parametrize('method', [distpro, dfa], ids=['distpro', 'dfa'])
def test_a_search_takes_neither(method, options):
    key = next(iter(options))
    caught(lambda: build(distilled(classifier(), one=method('search', **options))), f'model.distillers.one.{key}',
           "has no meaning with mode='search'")


class OfOnesOwn(FeatureAggregationDistiller):
    """It changes the student's forward, and does not say that images may not be left out."""

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureAggregationDistiller.Options):
        also_only = {}


def test_what_changes_the_forward_of_the_whole_batch_leaves_no_image_out():
    caught(lambda: build(distilled(classifier(), one=dict(dfa('search'), type=OfOnesOwn, fraction=.5))),
           'model.distillers.one.fraction', "0.5 leaves images out, but it changes the student's forward", 'Accepted: 1')


def test_one_value_of_every_channel_is_one_error(tmp_path):
    cfg = run_cfg(distilled(classifier(), one=dict(type='mmkd.FeatureDistiller', pairs=['neck'], adapter='conv1x1_bn',
                                                   fraction=.5)), tmp_path, length=2)
    with pytest.raises(DistillationError, match='^model.distillers.one: its batch norm sees one value of every channel.*'
                       r'\(batch_size, fraction\)'):
        run(cfg)
