"""The search on the training loop: what it changes and what not, resuming, its file, and what it refuses."""
import gc
import json
import weakref

import pytest
import torch
from dfa_runs import TWO_STAGES, equal, hook, search_run, searching
from mmengine.hooks import Hook
from zoo import (
    build,
    classifier,
    dfa,
    distilled,
    pspnet,
    run,
    run_cfg,
)

from mmkd_plugin.dfa import AggregationSearchHook, FeatureAggregationDistiller, search
from mmkd_plugin.dfa.artefact import read_aggregation
from mmkd_plugin.dfa.bilevel import finite_mixed_derivative
from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError


class Watch(Hook):
    """Keeps what is there before and after every step of beta, and after every step of the weights."""
    priority = 'VERY_HIGH'

    def __init__(self):
        self.seen = []

    def state(self, runner):
        dfa_ = runner.model.distillation.dfa
        return dict(
            weights={name: value.clone() for name, value in runner.model.named_parameters()},
            buffers={name: value.clone() for name, value in runner.model.named_buffers() if not name.endswith('beta')},
            betas=[group.beta.clone() for group in dfa_.groups], index=dfa_.search.index, rng=torch.get_rng_state())

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append([self.state(runner)])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen[-1].append(self.state(runner))


class AfterBeta(Hook):
    priority = 'LOW'

    def __init__(self, watch):
        self.watch = watch

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.watch.seen[-1].append(self.watch.state(runner))


def watched(folder, **options):
    watch = Watch()

    def before(runner):
        runner.register_hook(watch)
        runner.register_hook(AfterBeta(watch))

    runner, _ = search_run(folder, before=before, **options)
    return runner, watch.seen


@pytest.mark.parametrize('decay', [0., .1])
def test_P10_P11_a_step_of_beta_changes_the_present_beta_alone_and_the_other_step_weights_alone(decay, tmp_path):
    _, seen = watched(tmp_path, hooks=[hook(optimizer=dict(type='Adam', lr=.003, weight_decay=decay))])
    for start, after_beta, after_weights in seen:
        index = after_beta['index']
        assert equal(start['weights'], after_beta['weights'])
        assert equal(start['buffers'], after_beta['buffers'])
        assert torch.equal(start['rng'], after_beta['rng'])
        for number, (old, new) in enumerate(zip(start['betas'], after_beta['betas'])):
            assert torch.equal(old, new) == (number != index)
        assert not equal(after_beta['weights'], after_weights['weights'])
        assert all(torch.equal(old, new) for old, new in zip(after_beta['betas'], after_weights['betas']))
    assert [after['index'] for _, after, _ in seen] == [0, 0, 1, 1]


@pytest.mark.slow
def test_P11_without_learning_rates_nothing_moves(tmp_path):
    _, seen = watched(tmp_path / 'beta', hooks=[hook(optimizer=dict(type='Adam', lr=0.0))])
    assert all(torch.equal(old, new) for old, new in zip(seen[0][0]['betas'], seen[-1][2]['betas']))
    _, seen = watched(tmp_path / 'weights', lr=0.0)
    assert equal(seen[0][0]['weights'], seen[-1][2]['weights'])
    assert not torch.equal(seen[0][0]['betas'][0], seen[-1][2]['betas'][0])


@pytest.mark.slow
def test_P9_the_teacher_does_not_change(tmp_path):
    before = {}

    def remember(runner):
        model = runner.model.attach_distillation().teacher.model
        before.update({name: value.clone() for name, value in model.state_dict().items()})

    runner, _ = search_run(tmp_path, before=remember)
    teacher = runner.model.distillation.teacher.model
    assert equal(teacher.state_dict(), before)
    assert not teacher.training


@pytest.mark.slow
def test_the_teacher_stops_at_the_present_group_and_keeps_no_list_for_the_weights(tmp_path):
    calls, kept = [], []

    def before(runner):
        distillation = runner.model.attach_distillation()
        distillation.teacher.model.backbone.layer4.register_forward_pre_hook(lambda *_: calls.append(runner.iter))
        original = distillation.teacher.start

        def start(*args, **kwargs):
            waiting = original(*args, **kwargs)

            def features():
                found = waiting()
                kept.append(len(found))
                return found

            return features

        distillation.teacher.start = start

    search_run(tmp_path, before=before)
    # A beta step has the group's 6 (3) layers at hand, a weight step the sum alone.
    assert kept == [6, 1, 6, 1, 3, 1, 3, 1]
    assert calls == [2, 2, 3, 3], 'not before its turn'


@pytest.mark.slow
def test_the_file_says_what_was_found_and_distils(tmp_path):
    runner, _ = search_run(tmp_path / 'search')
    path = tmp_path / 'search' / 'aggregation.json'
    content = read_aggregation(path)
    distillation = runner.model.distillation
    assert [group['weights'] for group in content['groups']] == [group.weights() for group in distillation.dfa.groups]
    assert content['teacher'] == dict(model='ImageClassifier', sha256=distillation.teacher.identity['sha256'])
    assert [point[0] for point in content['course']['layer4']] == [2, 3, 4]
    assert content['course']['layer3'][-1][1:] == pytest.approx(content['groups'][0]['weights'], abs=1e-5)
    assert content['search']['iterations'] == 4
    assert content['search']['gammas'] == dict(layer3=dict(st=1.0, ts=1.0), layer4=dict(st=1.0, ts=1.0))
    assert content['meta']['dataset'] == 'ToyDataset'
    assert content['meta']['versions']['torch'] == torch.__version__
    stage_two = distilled(classifier(), classifier(16, depth=34),
                          dfa=dfa('distill', TWO_STAGES, aggregation=str(path), transfer=True))
    runner, losses = run(run_cfg(stage_two, tmp_path / 'distil', length=4))
    assert runner.model.distillation.dfa.groups[1].weights() == content['groups'][1]['weights']
    assert set(losses[0]) == {'loss', 'student.loss', 'dfa.loss_layer3', 'dfa.loss_layer4'}


@pytest.mark.slow
def test_the_weights_are_in_the_log_as_they_go(tmp_path):
    runner, _ = search_run(tmp_path, searching(gamma_st='auto'))
    scalars = {name: log.current() for name, log in runner.message_hub.log_scalars.items()}
    for group in runner.model.distillation.dfa.groups:
        assert [scalars[f'train/dfa.{group.name}.{number + 1}'] for number in range(len(group))] == group.weights()
    assert .1 <= scalars['train/dfa.gamma_st'] <= 10


@pytest.mark.slow
def test_gradients_may_be_accumulated(tmp_path):
    watch = Watch()
    cfg = run_cfg(searching(), tmp_path, 2, [hook()], 4)
    cfg.optim_wrapper.accumulative_counts = 2
    run(cfg, before=lambda runner: runner.register_hook(watch))
    indices = [after['index'] for _, after in watch.seen]
    assert not any(torch.equal(start['betas'][index], after['betas'][index])
                   for index, (start, after) in zip(indices, watch.seen))
    assert [equal(start['weights'], after['weights']) for start, after in watch.seen] == [True, False] * 2


def first_gradient(folder, monkeypatch, **options):
    """The gradient of the first step of beta."""
    found, original = [], search.AggregationSearch.gradient

    def gradient(*args):
        found.append(original(*args))
        return found[-1]

    with monkeypatch.context() as patch:
        patch.setattr(search.AggregationSearch, 'gradient', gradient)
        search_run(folder, **options)
    return found[0]


@pytest.mark.slow
def test_the_second_order_goes_with_the_rate_of_the_weights(tmp_path, monkeypatch):
    first, *second = (first_gradient(tmp_path / str(number), monkeypatch, hooks=[hook(unrolled=number > 0)], lr=lr)
                      for number, lr in enumerate((.005, .005, .01)))
    once, twice = (gradient - first for gradient in second)
    assert once.norm() > 1e-3 * first.norm()
    torch.testing.assert_close(twice, 2 * once, rtol=.2, atol=.05 * float(twice.norm()))


@pytest.mark.slow
def test_a_step_of_the_second_order_puts_weights_and_buffers_back(tmp_path):
    _, seen = watched(tmp_path, hooks=[hook(unrolled=True)])
    assert equal(seen[0][0]['weights'], seen[0][1]['weights'])
    assert equal(seen[0][0]['buffers'], seen[0][1]['buffers'])


@pytest.mark.slow
def test_weights_may_go_first(tmp_path):
    _, seen = watched(tmp_path, hooks=[hook(weights_first=.5)])
    moved = [not torch.equal(start['betas'][after['index']], after['betas'][after['index']]) for start, after, _ in seen]
    assert moved == [False, True, False, True]


@pytest.mark.slow
def test_a_group_of_one_layer_is_left_out(tmp_path):
    stages = ('backbone.layer3', dict(student='backbone.layer4', teacher='backbone.layer4.2@end'))
    runner, _ = search_run(tmp_path, searching(stages=stages))
    assert [group['weights'] for group in json.loads((tmp_path / 'aggregation.json').read_text())['groups']][1] == [1.0]
    message = (r'pairs: has one layer of the teacher in every group \(layer4\); there is nothing to search. Accepted: .* '
               'of which every_block=1 leaves more than one')
    with pytest.raises(DistillationError, match=message):
        search_run(tmp_path, searching(stages=stages[1:]))


@pytest.mark.slow
def test_gammas_are_balanced_once_and_then_left(tmp_path, monkeypatch):
    monkeypatch.setattr(search, 'BALANCE_BATCHES', 2)
    found = []

    class Note(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            found.append(runner.model.distillation.dfa.search.gammas.st)

    search_run(tmp_path, searching(gamma_st='auto', gamma_ts=2.0), length=8, epochs=2,
               before=lambda runner: runner.register_hook(Note()))
    assert len(found) == 8  # four of each group
    assert .2 <= found[1] <= 20
    assert found[1] == found[2] == found[3] != found[0]
    assert found[5] == found[6] == found[7] != found[3]


@pytest.mark.slow
@pytest.mark.parametrize(('ratio', 'told'), [(100., True), (2., False)])
def test_a_balance_at_its_bound_is_told(ratio, told, tmp_path, monkeypatch):
    class Unbalanced(Hook):
        priority = 'VERY_LOW'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            gammas = runner.model.distillation.dfa.search.gammas
            gammas._norms = [ratio, 1.]
            gammas._seen = search.BALANCE_BATCHES

    said = []
    monkeypatch.setattr('mmkd_plugin.dfa.hook.print_log', lambda text, *args, **kwargs: said.append(text))
    search_run(tmp_path, searching(gamma_st='auto'), before=lambda runner: runner.register_hook(Unbalanced()))
    assert any("search of layer3: gamma_st='auto' stopped at" in text for text in said) == told


@pytest.mark.slow
@pytest.mark.parametrize(('options', 'how'), [
    (dict(gamma_ts=2.0), {}), (dict(skip='teacher'), {}), ({}, dict(unrolled=True))])
def test_nothing_of_a_search_step_stays_alive(options, how, tmp_path, monkeypatch):
    """The teacher's maps go as soon as the step is over; nothing waits for the garbage collector."""
    held, alive = [], []
    wrap = FeatureAggregationDistiller.wrap

    def watched(distiller, teacher, batch):
        held.extend(weakref.ref(feature) for feature in teacher.values())
        return wrap(distiller, teacher, batch)

    class Count(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            alive.append(sum(reference() is not None for reference in held))

    monkeypatch.setattr(FeatureAggregationDistiller, 'wrap', watched)
    gc.disable()
    try:
        search_run(tmp_path, searching(**options), [hook(**how)], before=lambda runner: runner.register_hook(Count()))
    finally:
        gc.enable()
    assert len(held) > 10
    assert alive == [0] * 4


@pytest.mark.slow
def test_a_second_order_step_without_a_rate_is_the_first_order_one_with_dropout_too(tmp_path):
    betas = []
    for unrolled in (False, True):
        runner, _ = search_run(tmp_path / str(unrolled), searching(pspnet), [hook('mmseg', unrolled=unrolled)], lr=0.)
        betas.append(torch.cat([group.beta for group in runner.model.distillation.dfa.groups]))
    assert torch.equal(*betas)


@pytest.mark.slow
def test_P17_batches_of_both_steps_are_disjoint(tmp_path, monkeypatch):
    from mmengine.dataset import BaseDataset
    from mmengine.registry import DATASETS
    from zoo import sample

    @DATASETS.register_module(force=True)
    class Paths(BaseDataset):
        def load_data_list(self):
            return [dict(img_path=f'{number}.png', number=number) for number in range(12)]

        def __getitem__(self, index):
            return sample('mmpretrain', self.get_data_info(index)['number'])

    cfg = run_cfg(searching(), tmp_path, 2, [dict(type='mmkd.AggregationSearchHook')], 4)
    images = dict(type='Paths', _scope_='mmengine', ann_file='')
    cfg.train_dataloader.dataset = dict(type='mmkd.SplitDataset', dataset=images, part='train', ratio=.6)
    used = dict(train=set(), val=set())
    original = AggregationSearchHook._losses

    def losses(self, runner, model, data):
        used['val'] |= {sample.img_id for sample in data['data_samples']}
        return original(self, runner, model, data)

    monkeypatch.setattr(AggregationSearchHook, '_losses', losses)

    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            used['train'] |= {sample.img_id for sample in data_batch['data_samples']}

    run(cfg, before=lambda runner: runner.register_hook(Look()))
    assert len(used['train']) > 5
    assert len(used['val']) == 5
    assert not used['train'] & used['val']


@pytest.mark.slow
def test_a_search_over_normalised_layers_says_so_in_its_file(tmp_path):
    search_run(tmp_path, searching(normalise_layers=True))
    assert read_aggregation(tmp_path / 'aggregation.json')['search']['normalise_layers'] is True


@pytest.mark.slow
@pytest.mark.parametrize('unrolled', [False, True], ids=['first', 'unrolled'])
@pytest.mark.parametrize('wrapper', ['BFloatOptimWrapper', 'HalfOptimWrapper'])
def test_mixed_precision_finds_nearly_the_same_gradient(wrapper, unrolled, tmp_path, monkeypatch):
    plain, half = (first_gradient(tmp_path / name, monkeypatch, wrapper=name, hooks=[hook(unrolled=unrolled)])
                   for name in ('OptimWrapper', wrapper))
    assert half.dtype == torch.float32
    # bfloat16 has 3 digits, differentiated twice: 0.07 (unrolled 0.12) where torch rounds, 0.11 where a CPU's own units do.
    assert 0 < (plain - half).norm() < (.2 if unrolled else .15) * plain.norm()


@pytest.mark.slow
def test_the_search_ends_with_a_checkpoint_that_is_the_students(tmp_path):
    search_run(tmp_path, searching(pspnet))
    checkpoint = open_checkpoint(tmp_path / 'epoch_2.pth')
    build(pspnet()).load_state_dict(checkpoint['state_dict'])
    assert checkpoint['mmkd']['hooks']['aggregation_search']['search']['index'] == 1


@pytest.mark.slow
def test_an_operation_that_is_differentiable_once_ends_in_finite_differences_and_says_so(tmp_path, capfd):
    from mmengine.registry import MODELS
    from mmpretrain.models.necks import GlobalAveragePooling

    class Once(torch.autograd.Function):
        """As operations of mmcv on a GPU are."""

        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient.clone()

    @MODELS.register_module(force=True)
    class OncePooling(GlobalAveragePooling):
        def forward(self, inputs):
            return tuple(map(Once.apply, super().forward(inputs)))

    student = classifier()
    student['neck'] = dict(type='OncePooling', _scope_='mmengine')
    model = distilled(student, classifier(16, depth=34), dfa=dfa('search', TWO_STAGES))
    runner, _ = search_run(tmp_path, model, [hook(unrolled=True)])
    assert runner.model.distillation.dfa.search.mixed is finite_mixed_derivative
    output = ''.join(capfd.readouterr())
    assert output.count('a function marked with once_differentiable of the student has no second derivative') == 1
