"""What the rooms offer to hooks that search: kept steps, a suspended distillation, state in the checkpoint."""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from zoo import batch, build, classifier, distilled, loader, pspnet, run, run_cfg

from mmkd_plugin.baselines import FeatureDistiller
from mmkd_plugin.distiller import Distiller, IdleInPart, KeepsStep, TapNames
from mmkd_plugin.model import StatefulHook
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.isolation import set_rng_state
from mmkd_plugin.utils.progress import run_length

L2 = dict(l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))


def test_a_suspended_distillation_leaves_the_plain_students_loss(mmseg_scope):
    model = build(distilled(pspnet(), **L2)).train()
    plain = build(pspnet()).train()
    plain.load_state_dict(model.state_dict())
    data = model.data_preprocessor(batch('mmseg'), True)
    state = torch.get_rng_state()
    expected = plain(**data, mode='loss')
    torch.set_rng_state(state)
    with model.distillation.suspended():
        losses = model(**data, mode='loss')
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[name], expected[name]) for name in losses)
    assert 'l2.loss_layer4' in model(**data, mode='loss')


@MODELS.register_module(force=True)
class KeepingDistiller(FeatureDistiller, KeepsStep):
    """One that a search goes over the same batch again for."""


KEEPING = dict(l2=dict(type='mmkd.KeepingDistiller', pairs=['backbone.layer4']))


def test_a_kept_forward_has_the_batch_the_teachers_features_and_the_generators(mmseg_scope):
    model = build(distilled(pspnet(), **KEEPING)).train()
    data, distiller = model.data_preprocessor(batch('mmseg'), True), model.distillation.l2
    distiller.keeps_step = True
    losses = model(**data, mode='loss')
    kept = distiller.take_step()
    assert kept.batch.inputs is data['inputs']
    assert kept.batch.data_samples is data['data_samples']
    teacher = model.distillation.teacher_features(kept.batch, ['l2'])
    assert torch.equal(kept.teacher['backbone.layer4'], teacher['backbone.layer4'])
    set_rng_state(kept.rng)  # the dropout of the head again
    again = model(**data, mode='loss')
    assert all(torch.equal(losses[name], again[name]) for name in losses)
    distiller.take_step()
    with pytest.raises(RuntimeError, match='no forward has been kept'):
        distiller.take_step()


def test_nothing_is_kept_unless_asked_for(mmseg_scope):
    model = build(distilled(pspnet(), **KEEPING)).train()
    model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')
    with pytest.raises(RuntimeError, match='no forward has been kept'):
        model.distillation.l2.take_step()


def test_a_distiller_may_need_fewer_taps_at_times(mmpretrain_scope):
    @MODELS.register_module(name='ShallowDistiller', force=True)
    class ShallowDistiller(Distiller, IdleInPart):
        def __init__(self):
            super().__init__()
            self.student_taps = self.teacher_taps = ['backbone.layer1', 'backbone.layer4']

        def taps_at(self, iteration):
            return TapNames(['backbone.layer1'], ['backbone.layer1'])

        def forward(self, student, teacher, batch):
            assert list(student) == list(teacher) == ['backbone.layer1']
            return dict(loss=student['backbone.layer1'].sum() * 0)

    model = build(distilled(classifier(), shallow=dict(type='mmkd.ShallowDistiller')))
    calls = []
    model.distillation.teacher.model.backbone.layer2.register_forward_hook(lambda *_: calls.append(1))
    model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    assert calls == []  # the teacher stops at the deepest tap that is needed


class Counter(StatefulHook):
    state_key = 'counter'

    def __init__(self):
        self.count = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.count += 1

    def state_dict(self):
        return dict(count=self.count, history=torch.arange(self.count))

    def load_state_dict(self, state):
        self.count = state['count']
        assert len(state['history']) == self.count


def register(hook):
    return lambda runner: runner.register_hook(hook)


@pytest.mark.slow
def test_a_stateful_hook_goes_on_where_it_was(tmp_path):
    cfg = distilled(classifier(), **L2)
    run(run_cfg(cfg, tmp_path, epochs=1), before=register(Counter()))
    hook = Counter()
    run(run_cfg(cfg, tmp_path, epochs=3, resume=True), before=register(hook))
    assert hook.count == 12


@pytest.mark.slow
def test_resuming_with_other_stateful_hooks_is_refused(tmp_path):
    cfg = distilled(classifier(), **L2)
    run(run_cfg(cfg, tmp_path, length=2), before=register(Counter()))
    with pytest.raises(DistillationError, match=r"the state of the hooks \['counter'\], the config has \[\]"):
        run(run_cfg(cfg, tmp_path, length=2, epochs=2, resume=True))


def test_two_hooks_with_one_key_are_refused(tmp_path):
    def twice(runner):
        runner.register_hook(Counter())
        runner.register_hook(Counter())

    with pytest.raises(DistillationError, match='two of one kind'):
        run(run_cfg(distilled(classifier(), **L2), tmp_path, length=2), before=twice)


def test_the_length_of_the_run_is_known_inside_it_only(tmp_path):
    seen = []

    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(run_length())

    assert run_length() is None
    run(run_cfg(distilled(classifier(), **L2), tmp_path, length=4, epochs=3), before=register(Look()))
    assert seen == [6] * 6


@pytest.mark.slow
@pytest.mark.parametrize(('distiller', 'hook'), [
    (dict(type='mmkd.DistProDistiller', levels=['backbone.layer4'], mode='search'),
     dict(type='mmkd.ProcessSearchHook')),
    (dict(type='mmkd.FeatureAggregationDistiller', pairs=['backbone.layer4'], mode='search'),
     dict(type='mmkd.AggregationSearchHook')),
    (dict(type='mmkd.MatchingGuidedDistiller', pairs=['backbone.layer4']), dict(type='mmkd.MatchingUpdateHook')),
], ids=['process', 'aggregation', 'matching'])
def test_the_config_of_a_search_can_be_tested(distiller, hook, tmp_path):
    cfg = run_cfg(distilled(pspnet(), found=distiller), tmp_path, hooks=[hook])
    cfg.update(test_dataloader=loader('mmseg', 2), test_cfg=dict(type='TestLoop'),
               test_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'out.pkl')))
    runner = Runner.from_cfg(cfg)
    runner.test()
    assert runner.model.distillation is None
