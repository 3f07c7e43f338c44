"""Random numbers of a resumed run: in this process, in loader workers that live on, and in validations."""
from inspect import signature

import pytest
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop
from resume_runs import differences, epochs_cfg, interrupted, iterations_cfg, let_workers_go, with_drops
from zoo import Stop, run

from mmkd_plugin.utils.checkpoint_files import open_checkpoint


def same(make, folder, epoch=None, iteration=None, before=with_drops):
    whole, resumed, losses, later = interrupted(make, folder, epoch, iteration, before)
    assert later == losses
    assert differences(whole, resumed) == []
    return whole, resumed


@pytest.mark.parametrize('method', ['fork', 'spawn'])
@pytest.mark.slow
def test_workers_that_live_on_go_on_where_they_were(method, tmp_path):
    def make(folder, **options):
        return epochs_cfg(folder, workers=2, loaders=dict(multiprocessing_context=method), **options)

    same(make, tmp_path, epoch=1)


@pytest.mark.slow
def test_workers_of_one_epoch_and_this_process_go_on_where_they_were(tmp_path):
    same(lambda folder, **options: epochs_cfg(folder, workers=1, loaders=dict(persistent_workers=False), **options),
         tmp_path / 'workers', epoch=2)
    same(epochs_cfg, tmp_path / 'none', epoch=2)


@pytest.mark.parametrize('workers', [0, 2], ids=['none', 'living_on'])
def test_an_iteration_based_run_goes_on_where_it_was(workers, tmp_path):
    same(lambda folder, **options: iterations_cfg(folder, workers=workers, **options), tmp_path, iteration=4)


@pytest.mark.skipif('fast_forward_on_resume' not in signature(IterBasedTrainLoop).parameters,
                    reason="mmengine has no fast_forward_on_resume, which OneDL's has")
def test_a_run_that_goes_on_with_the_first_batches_draws_from_where_it_was(tmp_path):
    def make(folder, **options):
        cfg = iterations_cfg(folder, **options)
        cfg.train_cfg.fast_forward_on_resume = True
        return cfg

    whole, resumed, *_ = interrupted(make, tmp_path, iteration=2)
    assert resumed.generators_at_the_end.tolist() == whole.generators_at_the_end.tolist()


@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
@pytest.mark.parametrize('workers', [0, 2], ids=['no_workers', 'workers'])
@pytest.mark.slow
def test_validations_draw_what_they_would_have_drawn(kind, workers, tmp_path):
    make = dict(epochs=epochs_cfg, iterations=iterations_cfg)[kind]
    place = dict(epochs=dict(epoch=2), iterations=dict(iteration=4))[kind]
    whole, resumed = same(lambda folder, **options: make(folder, workers=workers, validates=True, **options), tmp_path,
                          **place)
    assert whole.message_hub.get_info('best_score') == resumed.message_hub.get_info('best_score')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_accumulated_gradients_and_averages_go_on(kind, tmp_path):
    def make(folder, **options):
        cfg = dict(epochs=epochs_cfg, iterations=iterations_cfg)[kind](folder, length=6, **options)
        cfg.optim_wrapper.accumulative_counts = 4
        cfg.custom_hooks = [dict(type='EMAHook')]
        return cfg

    whole, _ = same(make, tmp_path, **dict(epochs=dict(epoch=1), iterations=dict(iteration=3))[kind])
    names = dict(epochs='epoch_1.pth', iterations='iter_3.pth')
    gradients = open_checkpoint(tmp_path / 'half' / names[kind])['mmkd']['ranks'][0]['gradients']
    assert set(gradients) == {name for name, parameter in whole.model.named_parameters() if parameter.requires_grad}


class DiesBeforeValidation(Hook):
    """Ends the process of training when validation number ``number`` begins: its checkpoint has been saved before."""

    def __init__(self, number):
        self.left = number

    def before_val(self, runner):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['epochs', 'iterations'])
def test_the_last_validation_is_caught_up_on_where_training_is_done(kind, tmp_path):
    make = dict(epochs=epochs_cfg, iterations=iterations_cfg)[kind]
    whole, _ = run(make(tmp_path / 'whole', validates=True), with_drops)
    with pytest.raises(KeyboardInterrupt):
        run(make(tmp_path / 'half', validates=True),
            lambda runner: (with_drops(runner), runner.register_hook(DiesBeforeValidation(3))))
    resumed, losses = run(make(tmp_path / 'half', validates=True, resume=True), with_drops)
    assert losses == []
    assert set(differences(whole, resumed)) <= {'generators'}, 'nothing is drawn any more'
    for name in ('best_score', 'val/score'):
        get = 'get_info' if name == 'best_score' else 'get_scalar'
        values = [getattr(runner.message_hub, get)(name) for runner in (whole, resumed)]
        one, other = values if name == 'best_score' else [value.data[0].tolist() for value in values]
        assert one == other


class StopsAfter(Stop):
    """Ends training after a checkpoint, before the validation that follows it."""

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            raise KeyboardInterrupt


def killed_in_training(make, folder, epochs):
    """Runs of which each goes on from the one before, until a checkpoint of an epoch is saved and nothing after it."""
    for number, epoch in enumerate(epochs):
        with pytest.raises(KeyboardInterrupt):
            run(make(folder, resume=number > 0),
                lambda runner, last=epoch: (with_drops(runner), runner.register_hook(StopsAfter(last))))


@pytest.mark.slow
@pytest.mark.parametrize(('interval', 'kills'), [
    pytest.param(1, [2, 3], id='before each validation'), pytest.param(2, [3, 4], id='before workers have been asked')])
def test_workers_go_on_where_they_were_after_two_kills(interval, kills, tmp_path):
    def make(folder, **options):
        cfg = epochs_cfg(folder, 5, workers=2, validates=True, **options)
        cfg.train_cfg.val_interval = interval
        return cfg

    whole, losses = run(make(tmp_path / 'whole'), with_drops)
    killed_in_training(make, tmp_path / 'half', kills)
    resumed, later = run(make(tmp_path / 'half', resume=True), with_drops)
    for runner in (whole, resumed):
        let_workers_go(runner)
    assert later == losses[-len(later):]
    assert len(later) == len(losses) // 5 * (5 - kills[-1])
    assert differences(whole, resumed) == []
    scores = [runner.message_hub.get_scalar('val/score').data[0].tolist() for runner in (whole, resumed)]
    assert scores[0] == scores[1]


class SavesAgain(Hook):
    """Has a validation that comes first save its checkpoint again if it finds a new best, and dies in the next iteration."""
    priority = 'VERY_LOW'

    def before_train(self, runner):
        hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        hook.last_ckpt = runner.message_hub.get_info('last_ckpt')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_workers_go_on_where_they_were_after_a_checkpoint_that_is_saved_before_they_are_started(tmp_path):
    def make(folder, **options):
        return epochs_cfg(folder, 3, workers=2, validates=True, **options)

    whole, losses = run(make(tmp_path / 'whole'), with_drops)
    half = tmp_path / 'half'
    killed_in_training(make, half, [2])
    assert open_checkpoint(half / 'epoch_2.pth')['mmkd']['validated'] is False
    with pytest.raises(KeyboardInterrupt):
        run(make(half, resume=True), lambda runner: (with_drops(runner), runner.register_hook(SavesAgain())))
    again = open_checkpoint(half / 'epoch_2.pth')['mmkd']
    assert again['validated'] is True, 'the score has risen'
    assert set(again['ranks'][0]['workers']) == {'train', 'val'}
    resumed, later = run(make(half, resume=True), with_drops)
    for runner in (whole, resumed):
        let_workers_go(runner)
    assert later == losses[-len(later):]
    assert differences(whole, resumed) == []


@pytest.mark.slow
def test_another_number_of_workers_is_a_warning(tmp_path, capsys):
    run(epochs_cfg(tmp_path, 1, 4, workers=1))
    resumed, losses = run(epochs_cfg(tmp_path, 2, 4, workers=2, resume=True))
    resumed.train_loop.dataloader._iterator = None
    assert len(losses) == 2
    assert 'train_dataloader has 2 workers, it had 1' in capsys.readouterr().out


@pytest.mark.slow
def test_workers_that_live_on_only_now_are_a_warning(tmp_path, capsys):
    run(epochs_cfg(tmp_path, 1, 4))
    resumed, losses = run(epochs_cfg(tmp_path, 2, 4, workers=1, resume=True))
    let_workers_go(resumed)
    assert len(losses) == 2
    assert 'does not say where the workers of train_dataloader were' in capsys.readouterr().out
