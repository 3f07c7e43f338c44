"""A search that is interrupted and resumed is the uninterrupted one, or it is refused."""
import pytest
from dfa_runs import equal, hook, searching
from zoo import Stop, classifier, deeplabv3plus, pspnet, retinanet, run, run_cfg

from mmkd_plugin.utils.errors import DistillationError


@pytest.mark.slow
@pytest.mark.parametrize(('student', 'options', 'how', 'stop'), [
    (classifier, {}, {}, 1), (classifier, dict(gamma_st='auto'), {}, 3), (deeplabv3plus, {}, {}, 2),
    (retinanet, dict(skip='teacher'), {}, 3), (pspnet, {}, dict(unrolled=True), 2),
    (classifier, {}, dict(weights_first=.5), 3)])
def test_a_search_that_was_interrupted_is_the_uninterrupted_one(student, options, how, stop, tmp_path):
    model = searching(student, **options)
    scope = model['student']['_scope_']

    def cfg(folder, **others):
        cfg = run_cfg(model, tmp_path / folder, length=6, hooks=[hook(scope, **how)], **others)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=5)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
        cfg.train_dataloader.dataset.noise = cfg.custom_hooks[0].dataloader.dataset.noise = True
        cfg.custom_hooks[0].dataloader.dataset.length = 8  # other images than the training's
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
        return cfg

    whole, losses = run(cfg('whole'))
    run(cfg('half'), before=lambda runner: runner.register_hook(Stop(iteration=stop)))
    assert not (tmp_path / 'half/aggregation.json').exists()
    resumed, later = run(cfg('half', resume=True))
    assert later == losses[stop:]
    assert equal(whole.model.state_dict(), resumed.model.state_dict())
    assert equal(whole.model.distillation.state_dict(), resumed.model.distillation.state_dict())
    assert (tmp_path / 'whole/aggregation.json').read_text() == (tmp_path / 'half/aggregation.json').read_text()


@pytest.mark.slow
def test_an_epoch_based_search_that_was_interrupted_is_the_uninterrupted_one(tmp_path):
    def cfg(folder, **others):
        cfg = run_cfg(searching(), tmp_path / folder, 4, [hook()], length=4, **others)
        cfg.train_dataloader.dataset.noise = True
        return cfg

    whole, losses = run(cfg('whole'))
    run(cfg('half'), before=lambda runner: runner.register_hook(Stop(epoch=3)))
    resumed, later = run(cfg('half', resume=True))
    assert later == losses[6:]
    assert equal(whole.model.state_dict(), resumed.model.state_dict())
    assert (tmp_path / 'whole/aggregation.json').read_text() == (tmp_path / 'half/aggregation.json').read_text()


@pytest.mark.slow
@pytest.mark.parametrize(('change', 'both'), [
    (dict(model=dict(gamma_st=.02)), "Checkpoint: {'gamma_st': 1.0}. Config: {'gamma_st': 0.02}"),
    (dict(hook=dict(regularisation=.5)), "Checkpoint: {'regularisation': 0.001}. Config: {'regularisation': 0.5}"),
    (dict(epochs=4), "Checkpoint: {'iterations': 4, 'phases': .*}. Config: {'iterations': 8, 'phases'")])
def test_resuming_with_other_settings_is_refused(tmp_path, change, both):
    def cfg(change, **options):
        return run_cfg(searching(**change.get('model', {})), tmp_path, change.get('epochs', 2),
                       [hook(**change.get('hook', {}))], 4, **options)

    run(cfg({}), before=lambda runner: runner.register_hook(Stop(epoch=1)))
    with pytest.raises(DistillationError, match=f'resume: the search had other settings. {both}'):
        run(cfg(change, resume=True))
