"""What a check says of a right setup, of measured numbers, and of the configs that are shipped."""
import functools
import json
from pathlib import Path

import pytest
from check_setups import IMAGE, UPDATE, config, l2, searching
from click.testing import CliRunner
from fuzz.shipped import names, small
from fuzz.toy import loader
from mmengine.config import Config
from mmengine.config import utils as mmengine_utils
from mmengine.runner import Runner
from zoo import classifier, distilled, mgd, run_cfg

from mmkd_plugin.cli.main import mmkd
from mmkd_plugin.preflight import CHECKS, Finding, Report, check_config, run_check
from mmkd_plugin.preflight.findings import Check, finding_of, look
from mmkd_plugin.preflight.measure import ShortRun, short_config, short_run, with_smaller_image
from mmkd_plugin.preflight.measured import Measured, TeacherScore
from mmkd_plugin.preflight.run_checks import chance_of
from mmkd_plugin.preflight.setup import Setup
from mmkd_plugin.preflight.teacher_score import score_teachers
from mmkd_plugin.utils.errors import DistillationError

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOO_SHORT = 'dfa-search-length'  # true of a search that was cut to four iterations


def found(report):
    return [(finding.check, finding.grade) for finding in report.findings]


def test_a_right_setup_has_no_findings_and_its_report_has_all_it_measured(tmp_path):
    distillers = dict(mgd=mgd('backbone.layer3@preact', 'backbone.layer4@preact'), l2=l2(begin=10, warmup=20, every=2))
    cfg = config(tmp_path, distillers=distillers, custom_hooks=[dict(UPDATE, by_epoch=False, interval=10)])
    before = cfg.pretty_text
    report = run_check(cfg, iters=4, teacher_samples=0)
    assert [finding for finding in report.findings if finding.grade != 'advice'] == []
    assert report.exit_code == 0
    assert cfg.pretty_text == before
    assert not (tmp_path / 'run').exists()
    said = json.loads(report.json())
    assert said['measured']['iterations'] == 4
    assert said['measured']['batch'] == [2, 3, 32, 32]
    assert set(said['measured']['gradients']) == {'mgd', 'l2'}
    assert said['measured']['seconds']['plain'] > 0
    assert [(row['student'], row['student_shape'], row['student_stride']) for row in said['taps']] == [
        ('backbone.layer3@preact', [32, 8, 8], 4), ('backbone.layer4@preact', [64, 4, 4], 8),
        ('backbone.layer3', [32, 8, 8], 4)]
    assert all(row['ratio'] > 0 and -1 <= row['cosine'] <= 1 for row in said['taps'])
    assert all(word in report.text() for word in ('backbone.layer4@preact', '64x4x4 /8', 'an iteration:', 'found: 0 errors'))


def test_a_matching_is_found_on_one_image_of_the_training_batches(tmp_path):
    update = dict(UPDATE, dataloader=loader('classification', (64, 64), 12, 2, shuffle=False))
    run = ShortRun(short_config(config(tmp_path, distillers=dict(mgd=mgd('backbone.layer3@preact')), custom_hooks=[update]),
                                tmp_path / 'short'))
    seen = []
    run.model.distillation.teacher.model.backbone.register_forward_pre_hook(
        lambda _, images: seen.append((len(images[0]), images[0].shape[-1])))
    run.go(1, 60)
    assert seen == [(1, 32), (2, 32)]  # the matching, and the iteration


def test_images_of_a_matching_that_make_no_whole_batch_are_found_all_the_same(tmp_path):
    update = dict(UPDATE, dataloader=dict(loader('classification', IMAGE, 2, 4, shuffle=False), drop_last=True))
    report = run_check(config(tmp_path, distillers=dict(mgd=mgd()), custom_hooks=[update]), iters=1, teacher_samples=0)
    assert report.exit_code == 2
    assert 'MatchingUpdateHook.dataloader: has no whole batch' in report.text().replace('\n', ' ')


def test_a_large_image_of_the_dry_run_is_made_smaller_where_the_networks_take_that(tmp_path):
    cfg = config(tmp_path)
    for shape, smaller in ((3, 800, 1088), (3, 320, 416)), ((3, 512, 1024), (3, 256, 512)):
        cfg.model.image_shape = shape
        assert with_smaller_image(cfg).model.image_shape == smaller
    assert short_run(short_config(cfg, tmp_path / 'short')).model.distillation_cfg['image_shape'] == (3, 256, 512)
    for shape in ((3, 100, 2000), (3, 256, 512), 7):  # of no multiple of 32, small enough, none at all
        cfg.model.image_shape = shape
        assert with_smaller_image(cfg).model.image_shape == shape


def test_a_network_of_one_size_has_the_dry_run_that_its_config_says(tmp_path, monkeypatch):
    cfg = config(tmp_path)
    cfg.model.image_shape = (3, 512, 512)
    tried = []

    class OfOneSize(ShortRun):
        def __init__(self, cfg):
            tried.append(cfg.model.image_shape)
            if tried[-1] != (3, 512, 512):
                raise DistillationError('does not run on it')

    monkeypatch.setattr('mmkd_plugin.preflight.measure.ShortRun', OfOneSize)
    short_run(cfg)
    assert tried == [(3, 352, 352), (3, 512, 512)]


def test_what_there_is_no_time_for_is_said(tmp_path):
    report = run_check(config(tmp_path), iters=5, teacher_samples=16, seconds=0)
    assert report.measured.iterations == 1
    assert report.exit_code == 0
    assert 'not looked at: 4 of 5 iterations (no time was left for them: --seconds 0)' in report.text()
    assert 'model.teacher was not measured: no time was left (--seconds)' in report.text()


def test_a_teacher_is_not_asked_where_its_first_image_takes_longer_than_there_is_time(tmp_path):
    cfg = config(tmp_path)
    run = ShortRun(short_config(cfg, tmp_path / 'short'))
    asked = []
    run.model.distillation.teacher.model.backbone.register_forward_pre_hook(lambda *_: asked.append(True))
    score, = score_teachers(run.runner, cfg, 4, 60, per_pixel=1.0)
    assert not asked
    assert score.why_not == '4 of 32x32 would take it about 4096 s, more than is left (--seconds)'
    score, = score_teachers(run.runner, cfg, 4, 60, per_pixel=1e-6)
    assert asked
    assert not score.why_not


def test_what_a_pixel_takes_the_teachers_is_what_distillation_adds(tmp_path):
    measured = Measured(size=[2, 3, 4, 8], plain=[9., 1., 1.], distilled=[9., 3., 3.])
    assert measured.teachers_seconds == pytest.approx(2 / 64)
    assert Measured().teachers_seconds == 0


def test_networks_of_two_kinds_may_number_their_stages_otherwise(tmp_path):
    student = classifier(8)
    student.update(backbone=dict(type='MobileNetV2', widen_factor=0.25),
                   head=dict(type='LinearClsHead', num_classes=5, in_channels=1280))
    cfg = config(tmp_path, student=student, distillers=dict(l2=l2(('backbone.layer3', 'backbone.layer2'))))
    assert 'stages-apart' not in [check for check, _ in found(run_check(cfg, iters=0, teacher_samples=0))]


def test_updates_at_fifths_of_the_run_are_no_finding(tmp_path):
    cfg = config(tmp_path, distillers=dict(mgd=mgd('backbone.layer3@preact')),
                 custom_hooks=[dict(UPDATE, by_epoch=False, interval='auto')])
    assert list(CHECKS['update-interval'].look(Setup.of_config(cfg))) == []


def test_a_rate_that_follows_from_the_length_is_no_finding(tmp_path):
    setup = Setup.of_config(searching(tmp_path, 'ProcessSearchHook', dict(lr='auto'), iterations=10))
    assert list(CHECKS['distpro-rate'].look(setup)) == []


@pytest.mark.parametrize('kind', ['AggregationSearchHook', 'ProcessSearchHook'])
def test_a_search_is_run_with_its_hook(kind, tmp_path):
    hook = dict(optimizer=dict(type='Adam', lr=.1)) if kind == 'AggregationSearchHook' else {}
    report = run_check(searching(tmp_path, kind, hook), iters=2, teacher_samples=0)
    assert [finding for finding in report.findings if finding.grade != 'advice'] == []
    assert report.measured.iterations == 2


def test_where_a_search_is_described_it_is_looked_at_first(tmp_path):
    cfg = config(tmp_path, iterations=60, distillers=dict(distpro=dict(
        type='mmkd.DistProDistiller', levels=['backbone.layer3', 'backbone.layer4'], transforms='conv1')),
        search=dict(hook=dict(lr=1e-3), config=dict(train_dataloader=dict(dataset=dict(length=10)))))
    report = run_check(cfg, iters=1, teacher_samples=0)
    assert report.looked_at == 'search'
    assert [(finding.grade, finding.key) for finding in report.findings] == [('advice', 'search'),
                                                                            ('warning', 'search.hook.lr')]
    assert report.exit_code == 1
    assert report.measured.iterations == 1


def test_the_teacher_is_asked_for_images_spread_over_the_set(tmp_path):
    report = run_check(config(tmp_path), iters=1, teacher_samples=16, seconds=600)
    score = report.measured.scores[0]
    assert (score.images, score.classes, score.why_not) == (16, 5, '')
    assert 0 <= score.metrics['accuracy/top1'] <= 100


@pytest.mark.parametrize(('metrics', 'classes', 'least'), [
    ({'accuracy/top1': 50., 'accuracy/top5': 90.}, 100, 10.9), ({'mIoU': 60., 'aAcc': 90.}, 4, 32.5),
    ({'coco/bbox_mAP': .3, 'coco/bbox_mAP_50': .5}, 80, .02), ({'rmse': .3}, None, None)])
def test_what_a_teacher_has_to_reach(metrics, classes, least):
    said = chance_of(TeacherScore('model.teacher', 100, metrics, classes))
    assert (said and said[2]) == (least if least is None else pytest.approx(least))


def measured_setup(tmp_path, **measured):
    setup = Setup.of_config(config(tmp_path))
    setup.measured = Measured(iterations=4, compared={'l2'}, **measured)
    return look(setup)


@pytest.mark.parametrize(('measured', 'name', 'grade'), [
    (dict(ratios=dict(l2=[1.]), cosines=dict(l2=[-.9])), 'against-the-task', 'advice'),
    (dict(), 'no-gradient', 'warning'),
    (dict(ratios=dict(l2=[1.]), losses=dict(loss=[1., float('nan')])), 'losses-not-finite', 'error'),
    (dict(ratios=dict(l2=[1.]), plain=[9., 1., 1.], distilled=[9., 3., 3.]), 'costly-teacher', 'advice')])
def test_what_is_found_in_measured_numbers(measured, name, grade, tmp_path):
    assert [(finding.check, finding.grade) for finding in measured_setup(tmp_path, **measured)] == [(name, grade)]


def test_a_gradient_is_told_as_it_is_once_the_scale_is_found(tmp_path):
    cfg = config(tmp_path, distillers=dict(l2=l2(loss_scale='auto', loss_weight=.5)))
    report = run_check(cfg, iters=2, teacher_samples=0)
    gradient = json.loads(report.json())['measured']['gradients']['l2']
    assert gradient['ratio'] * gradient['scale'] == pytest.approx(.5)
    assert report.taps[0].ratio == pytest.approx(.5)
    assert (f"l2: its gradient is 0.5 of the task loss's, cosine {gradient['cosine']:.2f}, once loss_scale='auto' has found "
            f"its scale: about {gradient['scale']:.2g} by these iterations") in report.text()


def test_a_check_that_fails_early_has_no_table_of_nothing():
    text = run_check('no/such/config.py').text()
    assert text.startswith('no/such/config.py: no pair of taps could be looked at\n')
    assert 'shape /stride' not in text


@pytest.mark.parametrize(('grades', 'code'), [
    ((), 0), (('advice',), 0), (('advice', 'warning'), 1), (('warning', 'error'), 2)])
def test_scripts_learn_the_worst_grade_from_the_exit_code(grades, code):
    report = Report('a.py', [Finding(grade, 'model', 'is wrong', 'mend it') for grade in grades])
    assert report.exit_code == json.loads(report.json())['exit_code'] == code


def test_an_error_as_a_finding_keeps_key_value_and_what_is_accepted():
    raised = DistillationError('is odd', path='a.b', given=3, accepted='4', nearest=['4'], hint='Try it')
    finding = finding_of(raised, 'build')
    assert (finding.key, finding.what, finding.fix) == ('a.b', '3 is odd.', "Did you mean '4'? Accepted: 4. Try it.")


def test_a_check_that_fails_itself_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    def fails(setup):
        raise KeyError('never thought of')

    monkeypatch.setitem(CHECKS, 'fails', Check('fails', fails, 'config', True))
    setup = Setup.of_config(config(tmp_path, distillers=dict(l2=l2(loss_weight=0))))
    assert [finding.check for finding in look(setup)] == ['nothing-acts']


def test_the_command_prints_what_was_found_and_ends_with_its_code(tmp_path):
    cfg = config(tmp_path, distillers=dict(l2=l2(loss_weight=0)))
    cfg.dump(tmp_path / 'weightless.py')
    words = ['check', str(tmp_path / 'weightless.py'), '--iters', '0', '--teacher-samples', '0']
    said = CliRunner().invoke(mmkd, words)
    assert said.exit_code == 1
    assert 'WARNING model.distillers.l2.loss_weight: no distiller acts' in said.stdout
    said = CliRunner().invoke(mmkd, [*words, '--json', '--cfg-options', 'model.distillers.l2.loss_weight=1.5'])
    assert said.exit_code == 0
    assert json.loads(said.stdout)['findings'] == []


def test_a_config_that_is_not_there_is_one_error():
    report = run_check('no/such/config.py')
    assert [(finding.key, finding.grade) for finding in report.findings] == [('config', 'error')]
    assert report.exit_code == 2


def said_at_start(tmp_path, cfg):
    runner = Runner.from_cfg(cfg)
    said = []
    runner.logger.warning = lambda text, *_: said.append(str(text))
    runner.logger.log = lambda level, text, *_: said.append(str(text))
    runner.logger.info = lambda text, *_: said.append(str(text))
    runner.train()
    return said


def test_a_training_says_at_its_start_what_costs_nothing_to_find(tmp_path):
    cfg = run_cfg(distilled(classifier(8), l2=l2(loss_scale='auto')), tmp_path, epochs=1, length=2)
    said = said_at_start(tmp_path, cfg)
    assert sum('error: model.teacher.allow_random_weights' in text for text in said) == 1
    assert sum("model.distillers.l2.calibration_iters: loss_scale='auto' takes 200" in text for text in said) == 1
    assert sum("model.distillers.l2: loss_scale='auto' compares gradients until it settles" in text for text in said) == 1
    assert not any('could not be made' in text for text in said)


def test_a_search_that_cannot_move_says_so_when_it_begins_and_when_it_is_checked(tmp_path):
    cfg = searching(tmp_path, 'AggregationSearchHook', dict(optimizer=dict(type='Adam', lr=1e-3)), iterations=4)
    cfg.experiment_name = f'search {tmp_path}'
    said = said_at_start(tmp_path, cfg)
    assert sum(text.startswith('error: custom_hooks[0].optimizer.lr: ') for text in said) == 1
    assert (tmp_path / 'run/aggregation.json').is_file()
    assert ('dfa-search-length', 'error') in found(check_config(cfg))


def test_a_right_training_says_nothing(tmp_path):
    cfg = config(tmp_path, iterations=1)
    cfg.experiment_name = f'right {tmp_path}'
    assert [text for text in said_at_start(tmp_path, cfg) if text.startswith(('error', 'warning', 'preflight'))] == []


def test_every_check_is_explained_in_the_docs():
    text = (CONFIGS.parent / 'docs/check.md').read_text()
    rows = {line.split('`')[1]: line for line in text.splitlines() if line.startswith('| `')}
    assert set(rows) == set(CHECKS) | {'build', 'search-first'}


def distils(name):
    return 'DistilledModel' in (CONFIGS / name).read_text() or 'distillers' in (CONFIGS / name).read_text()


@pytest.fixture(scope='module')
def metafiles_read_once():
    """mmengine reads all metafiles of a package for each config that it is asked for by ``package::path``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.utils.load', functools.cache(mmengine_utils.load))
        yield


@pytest.mark.parametrize('name', list(filter(distils, names())))
def test_a_shipped_config_has_no_false_error(name, metafiles_read_once, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    report = check_config(CONFIGS / name)
    assert [finding for finding in report.findings if finding.grade != 'advice'] == []


@pytest.mark.slow
@pytest.mark.parametrize('name', ['segmentation/camvid/mgd-amp_pspnet_r18-r18w16-d8_1k_camvid-128x176.py',
                                  'detection/coco256/mgd-amp_retinanet_r18-r18w16_fpn_300_coco256.py',
                                  'demo/dfa_pspnet_r18w32-r18w8-d8_demo-64x128.py'])
def test_a_shipped_config_runs_without_an_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = run_check(Config(small(name, tmp_path).content), iters=1, teacher_samples=0)
    assert [finding.check for finding in report.findings if finding.grade == 'error'] in ([], [TOO_SHORT])
