"""The search on the ordinary train loop; T7 to T9 of the specification and the promises around it."""
import pytest
import torch
import torch.nn.functional as F
from distpro_runs import NAMES, Counts, distpro, everything, hook_of, scalars, search_cfg
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset
from zoo import STUDENTS, classifier, distilled, loader, run, run_cfg

from mmkd_plugin.distpro import PATHWAY_TRANSFORMS, read_process
from mmkd_plugin.utils.isolation import get_rng_state


@pytest.mark.parametrize(('scope', 'hypergradient', 'students', 'transforms'), [
    ('mmpretrain', 'exact', 3, 1), ('mmpretrain', 'finite_difference', 4, 3),
    *(pytest.param(scope, 'exact', 3, 1, marks=pytest.mark.slow) for scope in ('mmseg', 'mmdet'))])
def test_T7_one_teacher_forward_two_backwards_three_or_four_student_forwards(tmp_path, scope, hypergradient, students,
                                                                             transforms):
    counts = Counts()
    run(search_cfg(tmp_path, scope, hook=dict(hypergradient=hypergradient), length=4),
        before=lambda runner: runner.register_hook(counts))
    expected = dict(teacher=1, student=students, backward=2, transform=transforms)
    for row in counts.rows:
        assert {name: row[name] for name in expected} == expected
        if scope == 'mmpretrain':
            assert row['head'] == 2  # of training and validation; the other passes stop at the deepest tap


def test_with_an_interval_the_other_iterations_are_plain_distillation_steps(tmp_path):
    counts = Counts()
    run(search_cfg(tmp_path, hook=dict(interval=3), length=14), before=lambda runner: runner.register_hook(counts))
    assert [row['student'] for row in counts.rows] == [1, 1, 3, 1, 1, 3, 1]
    assert [row['backward'] for row in counts.rows] == [1, 1, 2, 1, 1, 2, 1]


@pytest.mark.parametrize(('scope', 'hypergradient', 'preprocessor'), [
    ('mmpretrain', 'exact', {}), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ('mmseg', 'exact', {}), ('mmdet', 'exact', {}), ('mmpretrain', 'finite_difference', {}),
        ('mmdet', 'exact', dict(pad_size_divisor=128))))], ids=['mmpretrain', 'mmseg', 'mmdet', 'differences', 'padded'])
def test_T8_the_meta_part_changes_nothing_but_the_importance(tmp_path, scope, hypergradient, preprocessor):
    # With a learning rate of 0 for the importance, a search is the run with constant weights: bit by bit.
    val = loader(scope, 4)
    val['dataset']['noise'] = True
    hook = dict(lr=1e-30, hypergradient=hypergradient, dataloader=val)
    student = STUDENTS[scope]()
    student['data_preprocessor'].update(preprocessor)
    searched, losses = run(search_cfg(tmp_path / 'search', scope, student=student, hook=hook))
    assert hook_of(searched).search.hypergradient == hypergradient
    assert hook_of(searched).search.steps == 4
    assert hook_of(searched).search.skipped == 0
    state = everything(searched), get_rng_state()['torch'], get_rng_state()['numpy'][1]
    MessageHub._instance_dict.clear()
    plain_cfg = distilled(student, distpro=distpro('constant', values=[1.] * 3, tau=None))
    plain, expected = run(run_cfg(plain_cfg, tmp_path / 'plain'))
    assert losses == expected
    assert state[0].keys() == everything(plain).keys()
    assert all(torch.equal(value, state[0][name]) for name, value in everything(plain).items())
    assert torch.equal(state[1], get_rng_state()['torch'])
    assert torch.equal(state[2], get_rng_state()['numpy'][1])


@MODELS.register_module(force=True)
class DroppingResNet(MODELS.get('mmpretrain.ResNet_CIFAR')):
    """With dropout between its stages."""

    def __init__(self, **options):
        super().__init__(**options)
        self.layer1.add_module('dropout', nn.Dropout(.5))


class ReplaysTheTrainingForward(Hook):
    """Compares the pathway losses of a further pass with those of the training forward, before the search step."""
    priority = 'ABOVE_NORMAL'

    def __init__(self):
        self.compared = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        search, before = hook_of(runner).search, hook_of(runner)._before
        losses = search.losses(before.point, runner.model.distillation.distpro._kept)
        # Each weighs 1 / (P + 1) while the importance is 1; the weights have moved since the forward, `before` has not.
        torch.testing.assert_close(sum(losses) / 4, outputs['distpro.loss_pathways'], rtol=1e-6, atol=0)
        self.compared += 1


def test_all_passes_over_the_training_batch_have_the_masks_of_the_training_forward(tmp_path):
    student = classifier()
    student['backbone'].update(type='DroppingResNet', _scope_='mmengine')
    levels = [('backbone.layer1', 'backbone.layer1@preact'), 'backbone.layer2@preact']
    hook = ReplaysTheTrainingForward()
    run(search_cfg(tmp_path, student=student, distiller=distpro(levels=levels), length=4, hook=dict(lr=1e-30)),
        before=lambda runner: runner.register_hook(hook))
    assert hook.compared == 2


@DATASETS.register_module(force=True)
class LabelledImages(Dataset):
    """Images whose first channel carries the class, the others noise."""

    def __init__(self, length, start=0):
        self.length, self.start = length, start

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(self.start + index)
        label = torch.randint(0, 4, (), generator=generator)
        image = torch.randn(3, 8, 8, generator=generator)
        image[0] += label - 1.5
        return dict(inputs=image, data_samples=label)


@MODELS.register_module(force=True)
class LabellingTeacher(BaseModel):
    """Three features that look like class scores: one has the class, two have noise."""

    def __init__(self):
        super().__init__()
        self.label, self.noise1, self.noise2 = (nn.Identity() for _ in range(3))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        classes = (inputs[:, 0].mean((1, 2)) + 1.5).round().clamp(0, 3).long()
        scores = 4 * F.one_hot(classes, 4).float() - 1
        noise = [inputs[:, channel, 0, :4] * 2 for channel in (1, 2)]
        return [module(feature[:, :, None, None].expand(-1, -1, 8, 8))
                for module, feature in zip((self.label, self.noise1, self.noise2), (scores, *noise))]


@MODELS.register_module(force=True)
class ScoringStudent(BaseModel):
    """Its feature is a map of class scores."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.scores(inputs).mean((2, 3))
        return dict(loss=F.cross_entropy(scores, data_samples)) if mode == 'loss' else scores


@PATHWAY_TRANSFORMS.register_module(name='as_it_is', force=True)
class AsItIs(nn.Module):
    def __init__(self, student, teacher):
        super().__init__()

    def forward(self, feature, size):
        return feature


@pytest.mark.slow
def test_T9_the_pathway_that_carries_the_labels_wins(tmp_path):
    def planted(length, start):
        return dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                    dataset=dict(type='LabelledImages', length=length, start=start), collate_fn=dict(type='default_collate'))

    model = dict(distilled(dict(type='ScoringStudent', _scope_='mmengine'), dict(type='LabellingTeacher'), distpro=distpro(
        levels=[('scores', tap) for tap in ('label', 'noise1', 'noise2')], connections='all', transforms='as_it_is')))
    model['image_shape'] = (3, 8, 8)
    cfg = run_cfg(model, tmp_path, hooks=[dict(type='mmkd.ProcessSearchHook', lr=.05,
                                               dataloader=planted(160, 1000))], epochs=2)
    cfg.train_dataloader = planted(320, 0)
    runner, _ = run(cfg)
    label, *noise = runner.model.distillation.distpro.importance.value.tolist()
    assert label > 1.5
    assert label > max(noise) + .5


def test_the_weights_are_in_the_log_and_in_the_scalars_of_the_visualiser(tmp_path):
    cfg = search_cfg(tmp_path, length=4)
    cfg.log_level = 'INFO'
    runner, _ = run(cfg)
    weights = runner.model.distillation.distpro.importance.weights(2)
    last = scalars(tmp_path)[-1]
    assert [last[f'distpro.{name}'] for name in NAMES] == pytest.approx(list(weights.values()))
    assert f'distpro.{NAMES[1]}: {weights[1]:.4f}' in next(tmp_path.glob('*/*.log')).read_text()


def test_the_file_has_what_each_iteration_used(tmp_path):
    seen = []

    class Note(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.model.distillation.distpro.importance.value.tolist())

    runner, _ = run(search_cfg(tmp_path, epochs=2), before=lambda runner: runner.register_hook(Note()))
    process = read_process(tmp_path / 'process.json')
    assert torch.allclose(process.importance, torch.tensor(seen).double(), atol=1e-6)
    assert process.importance[0].tolist() == [1, 1, 1]
    assert (process.length, process.every, process.unit) == (8, 1, 'iter')
    assert process.pathways == runner.model.distillation.distpro.pathways
    assert (process.meta['seed'], process.meta['versions']['torch']) == (0, torch.__version__)


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'expected'), [
    (dict(unit='epoch'), (3, 1, 'epoch', 3)), (dict(every=5), (12, 5, 'iter', 4))])
def test_what_is_recorded_can_be_chosen(tmp_path, options, expected):
    runner, _ = run(search_cfg(tmp_path, hook=options, epochs=3))
    process = read_process(tmp_path / 'process.json')
    assert (process.length, process.every, process.unit, len(process.importance)) == expected
    if process.unit == 'epoch':
        assert torch.allclose(process.importance[-1], runner.model.distillation.distpro.importance.value.double(), atol=1e-6)
