"""Broken setups, each as somebody would write it by mistake: found, graded, with the key to change."""
import pytest
from check_setups import IMAGE, PAIR, UPDATE, config, l2, searching, segmenting, swin_teacher, teacher_of
from fuzz.toy import loader
from mmengine.config import Config
from zoo import classifier, mgd

from mmkd_plugin.preflight import CHECKS, check_config, run_check

MODULES = '''
import torch.nn.functional as F
from torch import nn


class Live(nn.Sequential):
    def train(self, mode=True):
        return super().train(True)


class Draws(nn.Sequential):
    def forward(self, images):
        return super().forward(F.dropout(images, training=True))


def live():
    return Live(nn.Conv2d(3, 16, 3, 4, 1), nn.Dropout(.1))


def draws():
    return Draws(nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU())
'''


def of_a_file(folder, **model):
    """A config that inherits the student's from a file, and so its model, where nothing deletes that."""
    base = config(folder, custom_hooks=[dict(type='EMAHook'), dict(type='SyncBuffersHook')])
    student = base.model.student
    distilled = base.model.to_dict()
    base.model = student
    base.dump(folder / 'base.py')
    (folder / 'distilled.py').write_text(
        f"_base_ = './base.py'\ncustom_hooks = [dict(type='SyncBuffersHook')]\nmodel = {dict(distilled, **model)!r}\n")
    return str(folder / 'distilled.py')


def module_teacher(folder, name):
    (folder / 'modules.py').write_text(MODULES)
    block = dict(module=f'{folder}/modules.py:{name}', checkpoint='module')
    return config(folder, teacher=block, distillers=dict(l2=l2(('backbone.layer3', '0'))))


def wrong_shape(weights):
    """One weight of another shape, and the batch norms of a stage gone."""
    left_out = {name: value for name, value in weights.items() if 'layer4' not in name or 'bn' not in name}
    return dict(left_out, **{'head.fc.weight': weights['head.fc.weight'][:3]})


def changed(folder, **model):
    cfg = config(folder)
    cfg.model.update(model)
    return cfg


def other_normalisation():
    model = classifier(16)
    model['data_preprocessor'].update(mean=[1., 2., 3.])
    return model


def small_means():
    model = classifier(8)
    model['data_preprocessor'].update(mean=[.485, .456, .406], std=[.229, .224, .225])
    return model


def part_of_the_images():
    whole = loader('classification', IMAGE, 8)
    return dict(whole, dataset=dict(type='mmkd.SplitDataset', part='train', dataset=whole['dataset']))


def on_broken_data(folder):
    cfg = config(folder)
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile')]
    return cfg


def one_image(folder):
    cfg = config(folder, distillers=dict(mgd=mgd('backbone.layer3@preact')), custom_hooks=[UPDATE])
    cfg.train_dataloader.batch_size = 1
    return cfg


FROZEN = dict(classifier(8), backbone=dict(classifier(8)['backbone'], frozen_stages=3))
VAL = loader('classification', IMAGE, 20, 10, shuffle=False)
ADAM = dict(type='Adam', betas=(.5, .999))
DEEP_FIRST = [('backbone.layer4', 'backbone.layer4'), ('backbone.layer3', 'backbone.layer3')]

CONFIGS = {
    'the-base-is-merged': (lambda f: changed(f, backbone=dict(depth=18)), 'forgotten-delete', 'error', 'model._delete_'),
    'no-name-of-a-distiller': (lambda f: changed(f, distillers=l2()), 'forgotten-name', 'error', 'model.distillers'),
    'random-weights': (lambda f: config(f, teacher=dict(config=classifier(16), allow_random_weights=True)),
                       'random-teacher', 'error', 'model.teacher.allow_random_weights'),
    'all-weights-0': (lambda f: config(f, distillers=dict(l2=l2(loss_weight=0))), 'nothing-acts', 'warning',
                      'model.distillers.l2.loss_weight'),
    'a-search-without-its-hook': (lambda f: Config(dict(searching(f, 'ProcessSearchHook', {}), custom_hooks=[])),
                                  'missing-hook', 'error', 'custom_hooks'),
    'hooks-of-the-base-lost': (lambda f: of_a_file(f, _delete_=True), 'hooks-lost', 'warning', 'custom_hooks'),
    'the-update-never-comes': (lambda f: config(f, distillers=dict(mgd=mgd('backbone.layer3@preact')), custom_hooks=[
        dict(UPDATE, by_epoch=False, interval=[10, 60])]), 'update-interval', 'warning', 'custom_hooks[0].interval'),
    'no-time-to-calibrate': (lambda f: config(f, distillers=dict(l2=l2(loss_scale='auto'))), 'calibration-too-long',
                             'warning', 'model.distillers.l2.calibration_iters'),
    'no-time-for-the-scales-of-a-pool': (lambda f: config(f, distillers=dict(auto=dict(type='mmkd.AutoDistiller'))),
                                         'calibration-too-long', 'warning', 'model.distillers.auto.type'),
    'means-of-0-to-1': (lambda f: config(f, small_means()), 'normalisation-unit', 'error',
                        'model.student.data_preprocessor.mean'),
    'a-norm-over-one-image': (one_image, 'norm-of-few-images', 'warning', 'model.distillers.mgd.norm'),
    'a-sum-in-segmentation': (segmenting, 'summed-in-dense-prediction', 'advice', 'model.distillers.mgd.reduction'),
    'trained-on-a-part': (lambda f: config(f, train_dataloader=part_of_the_images()), 'trains-on-a-part', 'warning',
                          'train_dataloader.dataset'),
    'dfa-does-not-move': (lambda f: searching(f, 'AggregationSearchHook', dict(optimizer=dict(ADAM, lr=1e-3))),
                          'dfa-search-length', 'error', 'custom_hooks[0].optimizer.lr'),
    'dfa-hardly-moves': (lambda f: searching(f, 'AggregationSearchHook', dict(optimizer=dict(ADAM, lr=2e-2))),
                         'dfa-search-length', 'warning', 'custom_hooks[0].optimizer.lr'),
    'distpro-too-fast': (lambda f: searching(f, 'ProcessSearchHook', dict(lr=2.)), 'distpro-rate', 'warning',
                         'custom_hooks[0].lr'),
    'distpro-too-short': (lambda f: searching(f, 'ProcessSearchHook', dict(lr=.05), iterations=10), 'distpro-rate',
                          'warning', 'custom_hooks[0].lr'),
    'searched-on-the-benchmark': (lambda f: searching(f, 'ProcessSearchHook', dict(dataloader=VAL)),
                                  'judged-by-the-benchmark', 'warning', 'custom_hooks[0].dataloader')}

MODELS = {
    'other-resolution': (lambda f: config(f, distillers=dict(l2=l2(('backbone.layer1', 'backbone.layer3')))),
                         'resolutions-apart', 'warning', 'model.distillers.l2.pairs[0]'),
    'other-stage': (lambda f: config(f, distillers=dict(l2=l2(('backbone.layer2', 'backbone.layer3')))), 'stages-apart',
                    'advice', 'model.distillers.l2.pairs[0]'),
    'exchanged-widths': (lambda f: config(f, teacher=teacher_of(f, classifier(4))), 'wider-student', 'advice',
                         'model.distillers.l2.pairs[0]'),
    'exchanged-networks': (lambda f: config(f, teacher=teacher_of(f, classifier(4))), 'small-teacher', 'warning',
                           'model.teacher'),
    'other-means': (lambda f: config(f, teacher=teacher_of(f, other_normalisation())), 'normalisation-differs', 'advice',
                    'model.teacher.config.model.data_preprocessor'),
    'other-classes': (lambda f: config(f, teacher=teacher_of(f, classifier(16, num_classes=7))), 'classes-differ', 'advice',
                      'model.teacher.config'),
    'dropout-lives-on': (lambda f: module_teacher(f, 'live'), 'live-teacher', 'error', 'model.teacher'),
    'dropout-as-a-function': (lambda f: module_teacher(f, 'draws'), 'teacher-draws', 'error', 'model.teacher'),
    'deep-to-shallow': (lambda f: config(f, distillers=dict(l2=l2(*DEEP_FIRST))), 'build', 'error',
                        'model.distillers.l2.pairs[0].student'),
    'forgotten-brackets': (lambda f: config(f, distillers=dict(l2=dict(l2(), pairs=PAIR))), 'build', 'error',
                           'model.distillers.l2.pairs'),
    'no-such-tap': (lambda f: config(f, distillers=dict(l2=l2('backbone.layr3'))), 'build', 'error',
                    'model.distillers.l2.pairs[0].student'),
    'another-checkpoint': (lambda f: config(f, teacher=teacher_of(f, change=wrong_shape)), 'build', 'error',
                           'model.teacher.checkpoint'),
    'no-checkpoint': (lambda f: config(f, teacher=dict(config=classifier(16), checkpoint=str(f / 'none.pth'))), 'build',
                      'error', 'model.teacher.checkpoint'),
    'nothing-is-distilled': (lambda f: Config(dict(config(f), model=classifier())), 'build', 'error', 'model.type')}

RUNS = {
    'the-first-batch-is-too-small': (lambda f: first_batch_too_small(f), 'build', 'error', 'model.teacher'),
    'a-teacher-that-guesses': (config, 'teacher-near-chance', 'error', 'model.teacher.checkpoint'),
    'too-weak': (lambda f: config(f, distillers=dict(l2=l2(loss_weight=1e-9))), 'weak-or-strong', 'warning',
                 'model.distillers.l2.loss_weight'),
    'too-strong': (lambda f: config(f, distillers=dict(l2=l2(loss_weight=1e6))), 'weak-or-strong', 'warning',
                   'model.distillers.l2.loss_weight'),
    'fewer-classes-than-the-data': (lambda f: config(f, classifier(8, num_classes=3)), 'classes-of-the-data', 'error',
                                    'model.student'),
    'a-frozen-stage': (lambda f: config(f, FROZEN), 'build', 'error', 'model.distillers.l2.pairs[0].student'),
    'images-that-are-not-there': (on_broken_data, 'build', 'error', 'train_dataloader')}


def first_batch_too_small(folder):
    cfg = config(folder, teacher=teacher_of(folder, swin_teacher()), distillers=dict(l2=l2(('backbone.layer3', 'backbone'))))
    cfg.model.image_shape = (3, 128, 128)
    return cfg


def is_found(report, name, grade, key):
    found = [(finding.check, finding.grade, finding.key) for finding in report.findings]
    assert (name, grade, key) in found
    assert all(finding.what and str(finding).startswith(f'{finding.key}: ') for finding in report.findings)


@pytest.mark.parametrize(('make', 'name', 'grade', 'key'), CONFIGS.values(), ids=CONFIGS)
def test_it_is_found_in_the_config(make, name, grade, key, tmp_path):
    is_found(check_config(make(tmp_path)), name, grade, key)


@pytest.mark.parametrize(('make', 'name', 'grade', 'key'), MODELS.values(), ids=MODELS)
def test_it_is_found_in_the_models(make, name, grade, key, tmp_path):
    is_found(run_check(make(tmp_path), iters=0, teacher_samples=0), name, grade, key)


@pytest.mark.parametrize(('make', 'name', 'grade', 'key'), RUNS.values(), ids=RUNS)
def test_it_is_found_in_a_few_iterations(make, name, grade, key, tmp_path):
    is_found(run_check(make(tmp_path), iters=2, teacher_samples=20, seconds=600), name, grade, key)


def test_there_are_so_many_setups_and_each_check_but_few_has_one():
    cases = [*CONFIGS.values(), *MODELS.values(), *RUNS.values()]
    assert len(cases) >= 25
    without = set(CHECKS) - {name for _, name, _, _ in cases}
    assert without == {'against-the-task', 'no-gradient', 'losses-not-finite', 'costly-teacher'}  # see test_checks.py
