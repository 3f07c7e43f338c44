"""Searches whose training steps are judged by the batch after them."""
import pytest
import torch
from distpro_runs import (
    Counts,
    distpro,
    endless,
    everything,
    hook_of,
    interrupted,
    pool,
    pool_cfg,
    same_weights,
    search_cfg,
)
from distpro_truth import BruteForce, batch, smooth_model, training_step
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from zoo import STUDENTS, distilled, loader, run, run_cfg

from mmkd_plugin.distpro import read_process
from mmkd_plugin.distpro.search import ProcessSearch
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.isolation import get_rng_state


def next_batch_cfg(folder, scope='mmpretrain', **options):
    return search_cfg(folder, scope, hook=dict(options.pop('hook', {}), validation='next_batch'), **options)


def test_the_hypergradient_is_that_of_brute_force(monkeypatch):
    model = smooth_model()
    distiller = model.distillation.distpro
    optimiser = torch.optim.SGD(model.parameters(), lr=.1, momentum=.9)
    distiller.search = search = ProcessSearch(model, distiller, .05, (.5, .999))
    training_step(model, optimiser, batch(0))
    brute = BruteForce(model, optimiser, batch(1))
    distiller.keeps_step = distiller.keeps_gradients = True
    before = search.snapshot(optimiser)
    training_step(model, optimiser, batch(1))
    kept = distiller.take_step()
    search.wait(before, kept)
    rng, found = get_rng_state(), []
    monkeypatch.setattr(search, '_move', found.append)
    distiller.keeps_step = distiller.keeps_gradients = False
    distiller.see_task_loss = search.judge
    model(**batch(2), mode='loss')
    true, _ = brute.gradient(kept, batch(2), rng)
    assert ((found[0] - true).norm() / true.norm()).item() < 1e-9
    assert true.abs().min() > 1e-6
    assert not search.waits


def test_an_iteration_has_one_teacher_forward_two_student_forwards_and_two_backwards(tmp_path):
    counts = Counts()
    run(next_batch_cfg(tmp_path, length=6), before=lambda runner: runner.register_hook(counts))
    first, *others = counts.rows
    assert (first['student'], first['backward']) == (1, 1)  # nothing to judge yet
    for row in others:
        assert (row['teacher'], row['student'], row['backward'], row['transform'], row['head']) == (1, 2, 2, 1, 1)


@pytest.mark.parametrize('scope', ['mmpretrain', *(pytest.param(scope, marks=pytest.mark.slow)
                                                   for scope in ('mmseg', 'mmdet'))])
def test_the_search_changes_nothing_but_the_importance(tmp_path, scope):
    # With dropout (mmseg): the further passes draw the same masks and leave the generators alone.
    searched, losses = run(next_batch_cfg(tmp_path / 'search', scope, hook=dict(lr=1e-30)))
    assert (hook_of(searched).search.steps, hook_of(searched).search.skipped) == (3, 0)
    state, rng = everything(searched), get_rng_state()['torch']
    MessageHub._instance_dict.clear()
    plain, expected = run(run_cfg(distilled(STUDENTS[scope](), distpro=distpro('constant', values=[1.] * 3, tau=None)),
                                  tmp_path / 'plain'))
    assert losses == expected
    assert all(torch.equal(value, state[name]) for name, value in everything(plain).items())
    assert torch.equal(rng, get_rng_state()['torch'])


def test_the_file_has_what_each_iteration_used(tmp_path):
    seen = []

    class Note(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(runner.model.distillation.distpro.importance.value.tolist())

    run(next_batch_cfg(tmp_path, hook=dict(lr=.5)), before=lambda runner: runner.register_hook(Note()))
    importance = read_process(tmp_path / 'process.json').importance
    assert torch.allclose(importance, torch.tensor(seen).double(), atol=1e-6)
    assert [bool((one != other).any()) for one, other in zip(importance[1:], importance)] == [True] * 3
    assert importance[0].tolist() == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize('scope', ['mmseg', 'mmpretrain'])
def test_an_interrupted_search_is_an_uninterrupted_one(tmp_path, scope):
    # The step before a checkpoint is judged in neither: what it needs is not kept.
    def cfg(folder, **options):
        made = endless(next_batch_cfg(folder, scope, **options))
        made.default_hooks.checkpoint.interval = 3
        made.train_dataloader.dataset.noise = True
        return made

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 3)
    assert both == losses
    assert same_weights(whole, resumed)
    assert hook_of(whole).search.steps == hook_of(resumed).search.steps == 4
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize('wrapper', [dict(type='BFloatOptimWrapper'), dict(type='HalfOptimWrapper'),
                                     dict(accumulative_counts=2)], ids=['bfloat16', 'float16', 'accumulation'])
def test_mixed_precision_and_accumulation(tmp_path, wrapper):
    cfg = next_batch_cfg(tmp_path, length=12, distiller=distpro(normalisation='sigmoid'))
    cfg.optim_wrapper.update(wrapper)
    runner, _ = run(cfg)
    search = hook_of(runner).search
    assert (search.steps, search.skipped) == ((2, 0) if 'accumulative_counts' in wrapper else (5, 0))
    importance = read_process(tmp_path / 'process.json').importance
    assert (importance[-1] != importance[0]).all()


def test_with_an_interval_the_iterations_between_are_plain_distillation_steps(tmp_path):
    counts = Counts()
    runner, _ = run(next_batch_cfg(tmp_path, length=12, hook=dict(interval=3)),
                    before=lambda runner: runner.register_hook(counts))
    assert [row['student'] for row in counts.rows] == [1, 1, 1, 2, 1, 1]
    assert [row['backward'] for row in counts.rows] == [1, 1, 1, 2, 1, 1]
    assert hook_of(runner).search.steps == 1


def test_a_search_of_one_iteration_has_no_batch_that_judges_it(tmp_path):
    with pytest.raises(DistillationError, match='^ProcessSearchHook: the search has 1 iterations, and none for a search '
                       'step: the last has none after it that judges it'):
        run(next_batch_cfg(tmp_path, length=2))


def test_what_a_tiny_search_lacks_is_iterations_not_another_interval(tmp_path):
    cfg = pool_cfg(tmp_path, pool(members=['l2'], scales='auto'), hook=dict(validation='next_batch', until=.2), length=20)
    with pytest.raises(DistillationError, match='(?s)^ProcessSearchHook: the search has 2 iterations, .*scales are found in '
                       'the first 1 .*the last has none after it.* Accepted: a longer search'):
        run(cfg)


@pytest.mark.parametrize('interval', [2, 4])
def test_a_search_whose_every_step_comes_before_a_checkpoint_is_refused(interval, tmp_path):
    cfg = next_batch_cfg(tmp_path, length=20, hook=dict(interval=interval))
    cfg.default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False))
    with pytest.raises(DistillationError, match=f'Hook.interval: {interval} has every search step just before a checkpoint'):
        run(cfg)


def test_held_out_images_beside_it_are_refused(tmp_path):
    with pytest.raises(DistillationError, match="Hook.dataloader: .*has no meaning with validation='next_batch'"):
        run(search_cfg(tmp_path, hook=dict(validation='next_batch', dataloader=loader('mmpretrain', 5))))


def test_its_config_splits_nothing(tmp_path):
    model = distilled(STUDENTS['mmpretrain'](), distpro=dict(distpro('search'), mode='process'))
    cfg = run_cfg(model, tmp_path, search=dict(hook=dict(validation='next_batch')))
    derived = derive_search(cfg)
    assert derived.train_dataloader.dataset == cfg.train_dataloader.dataset
    assert derived.custom_hooks[0].validation == 'next_batch'
    cfg.search = dict(split=.8, hook=dict(validation='next_batch'))
    with pytest.raises(DistillationError, match="search.split: 0.8 has no meaning beside hook.validation='next_batch'"):
        derive_search(cfg)
