"""An interrupted search is an uninterrupted one, bit by bit, its file included; so is an interrupted replay."""
import pytest
import torch
from distpro_runs import distpro, endless, hook_of, interrupted, pool, pool_cfg, same_weights, search_cfg
from mmengine.logging import MessageHub
from zoo import STUDENTS, Stop, distilled, loader, run, run_cfg

from mmkd_plugin.utils.errors import DistillationError


@pytest.mark.slow
@pytest.mark.parametrize('scope', ['mmseg', 'mmpretrain'])
def test_an_interrupted_search_is_an_uninterrupted_one(tmp_path, scope):
    # With dropout (mmseg) and random transforms in training and validation.
    val = loader(scope, 6)
    val['dataset']['noise'] = True

    def cfg(folder, **options):
        made = endless(search_cfg(folder, scope, hook=dict(dataloader=val), **options))
        made.train_dataloader.dataset.noise = True
        return made

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 3)
    assert both == losses
    assert same_weights(whole, resumed)
    ours, theirs = hook_of(whole).search.state(), hook_of(resumed).search.state()
    for name, value in ours['optimiser']['state'][0].items():
        assert torch.equal(value, theirs['optimiser']['state'][0][name]), name
    file, other = ((tmp_path / name / 'process.json').read_bytes() for name in ('whole', 'half'))
    assert file == other


@pytest.mark.slow
def test_a_search_of_a_pool_too(tmp_path):
    def cfg(folder, **options):
        return endless(pool_cfg(folder, pool(scales='auto'), hook=dict(lr=.2), **options))

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 3)
    assert both == losses
    assert same_weights(whole, resumed)
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


@pytest.mark.slow
def test_an_epoch_based_search_too(tmp_path):
    def cfg(folder, **options):
        return search_cfg(folder, epochs=2, length=4, **options)

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 2)
    assert both == losses
    assert same_weights(whole, resumed)
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


def test_an_interrupted_search_leaves_no_file(tmp_path):
    run(search_cfg(tmp_path, epochs=2), before=lambda runner: runner.register_hook(Stop(iteration=3)))
    assert not (tmp_path / 'process.json').exists()


@pytest.mark.slow
def test_resuming_a_finished_search_writes_the_same_file(tmp_path):
    run(search_cfg(tmp_path))
    written = (tmp_path / 'process.json').read_bytes()
    (tmp_path / 'process.json').unlink()
    MessageHub._instance_dict.clear()
    run(search_cfg(tmp_path, resume=True))
    assert (tmp_path / 'process.json').read_bytes() == written


@pytest.mark.slow
@pytest.mark.parametrize(('change', 'both'), [
    (dict(epochs=3), r"Checkpoint: {'length': 8}. Config: {'length': 12}"),
    (dict(hook=dict(lr=.1)), r"Checkpoint: {'lr': 0.05}. Config: {'lr': 0.1}"),
    (dict(hook=dict(every=2)), r"Checkpoint: {'every': 1}. Config: {'every': 2}"),
    (dict(distiller=distpro(total=2.)), r"Checkpoint: {'total': None}. Config: {'total': 2.0}"),
    (dict(distiller=distpro(bias=.5, scale_by_pathways=True)), r"Checkpoint: {'bias': 1.0, 'scale_by_pathways': False}"),
    (dict(distiller=distpro(scales=[1., 2., 1.])), r"Checkpoint: {'scales': None}. Config: {'scales': \[1.0, 2.0, 1.0\]}")])
def test_resuming_a_search_with_other_settings_is_refused(tmp_path, change, both):
    run(search_cfg(tmp_path, epochs=2), before=lambda runner: runner.register_hook(Stop(iteration=4)))
    MessageHub._instance_dict.clear()
    with pytest.raises(DistillationError, match=f'resume: the search had other settings. {both}'):
        run(search_cfg(tmp_path, resume=True, **{'epochs': 2, **change}))


@pytest.fixture
def process(tmp_path):
    run(search_cfg(tmp_path / 'search', hook=dict(lr=.5)))
    MessageHub._instance_dict.clear()
    return str(tmp_path / 'search' / 'process.json')


@pytest.mark.slow
def test_an_interrupted_replay_is_an_uninterrupted_one(tmp_path, process):
    def cfg(folder, **options):
        model = distilled(STUDENTS['mmpretrain'](), distpro=distpro('process', process=process))
        made = run_cfg(model, folder, **options)
        made.experiment_name = f'replay in {folder}'
        return endless(made)

    whole, resumed, losses, both = interrupted(cfg, tmp_path, 3)
    assert both == losses
    assert same_weights(whole, resumed)


@pytest.mark.slow
def test_a_replay_goes_on_with_another_total_and_other_scales_and_says_so(tmp_path, process):
    def cfg(epochs, **options):
        model = distilled(STUDENTS['mmpretrain'](), distpro=distpro('process', process=process, **options))
        return run_cfg(model, tmp_path / 'replay', epochs, resume=epochs > 1)

    run(cfg(1))
    MessageHub._instance_dict.clear()
    said = []

    def listen(runner):
        log = runner.logger.log
        runner.logger.log = lambda level, text, *args: (said.append((level, str(text))), log(level, text, *args))

    _, losses = run(cfg(2, total=.25, scales=[1., 2., 1.]), before=listen)
    assert len(losses) == 4
    warned, = (text for level, text in said if level == 30 and 'options have changed' in text)
    assert "distpro.scales is [1, 2, 1], it was 'auto'" in warned
    assert "distpro.total is 0.25, it was 'auto'" in warned


@pytest.mark.slow
def test_resuming_with_another_process_is_refused(tmp_path, process):
    def cfg(**options):
        return run_cfg(distilled(STUDENTS['mmpretrain'](), distpro=distpro('process', process=process)),
                       tmp_path / 'replay', **options)

    run(cfg(epochs=1))
    MessageHub._instance_dict.clear()
    run(search_cfg(tmp_path / 'search', hook=dict(lr=.1)))
    MessageHub._instance_dict.clear()
    with pytest.raises(DistillationError, match='distpro is not the one of the checkpoint. Checkpoint: process'):
        run(cfg(epochs=2, resume=True))
