"""Random numbers of a resumed run: in this process, in loader workers that live on, and in validations."""
import pytest
from mmengine.hooks import Hook
from resume_runs import differences, epochs_cfg, interrupted, iterations_cfg, with_drops
from zoo import run

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


@pytest.mark.slow
def test_another_number_of_workers_is_a_warning(tmp_path, capsys):
    run(epochs_cfg(tmp_path, 1, 4, workers=1))
    resumed, losses = run(epochs_cfg(tmp_path, 2, 4, workers=2, resume=True))
    resumed.train_loop.dataloader._iterator = None
    assert len(losses) == 2
    assert 'train_dataloader has 2 workers, it had 1' in capsys.readouterr().out
