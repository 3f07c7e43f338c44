"""Resuming: bit-equal to a run that was not interrupted, and refused where it would mix two runs."""
import pytest
import torch
from zoo import STUDENTS, Stop, classifier, distilled, mgd, pspnet, run, run_cfg, update_hook

from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError

SCOPES = list(STUDENTS)


@pytest.mark.parametrize('scope', SCOPES)
def test_resume_is_bit_equal_with_a_matching_update_in_between(scope, tmp_path):
    cfg = distilled(STUDENTS[scope](), mgd=mgd(reducer='random_drop'),
                    l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))
    hooks = [update_hook(scope)]
    whole, losses = run(run_cfg(cfg, tmp_path / 'whole', epochs=3, hooks=hooks))
    whole_assignment = whole.model.distillation.mgd.stages[1].assignment

    run(run_cfg(cfg, tmp_path / 'half', epochs=3, hooks=hooks), before=lambda runner: runner.register_hook(Stop(epoch=1)))
    resumed, later = run(run_cfg(cfg, tmp_path / 'half', epochs=3, hooks=hooks, resume=True))
    assert len(later) == 8
    assert later == losses[4:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert torch.equal(resumed.model.distillation.mgd.stages[1].assignment, whole_assignment)
    assert torch.equal(resumed.model.distillation.l2.adapters[0].weight, whole.model.distillation.l2.adapters[0].weight)


@pytest.mark.slow
def test_resume_of_an_iteration_based_run_is_bit_equal(tmp_path):
    # With dropout, a random transform in this process, and a matching update in between.
    def cfg(folder, iterations, **options):
        cfg = run_cfg(distilled(pspnet(), mgd=mgd(reducer='random_drop')), tmp_path / folder, length=6,
                      hooks=[update_hook('mmseg', interval=2, by_epoch=False)], **options)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', _scope_='mmengine')
        cfg.train_dataloader.dataset.noise = True
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
        return cfg

    whole, losses = run(cfg('whole', 6))
    assert len({loss['decode.loss_ce'] for loss in losses}) == 6
    run(cfg('half', 6), before=lambda runner: runner.register_hook(Stop(iteration=3)))
    resumed, later = run(cfg('half', 6, resume=True))
    assert later == losses[3:]
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())


def test_resuming_with_other_taps_of_equal_width_is_refused(tmp_path):
    hooks = [update_hook('mmpretrain')]
    run(run_cfg(distilled(classifier(), mgd=mgd('backbone.layer4@preact')), tmp_path, length=2, hooks=hooks))
    other = distilled(classifier(), mgd=mgd('backbone.layer4.0@preact'))
    message = r'Checkpoint: .*backbone.layer4@preact.* Config: .*backbone.layer4.0@preact'
    with pytest.raises(DistillationError, match=message):
        run(run_cfg(other, tmp_path, epochs=2, length=2, hooks=hooks, resume=True))


def test_resuming_with_another_teacher_is_refused(tmp_path):
    cfg = distilled(classifier())
    run(run_cfg(cfg, tmp_path, length=2, hooks=[update_hook('mmpretrain')]))
    other = distilled(classifier(), classifier(base_channels=32))
    with pytest.raises(DistillationError, match='teacher with other weights'):
        run(run_cfg(other, tmp_path, epochs=2, length=2, hooks=[update_hook('mmpretrain')], resume=True))


def test_resuming_a_plain_checkpoint_is_refused(tmp_path):
    run(run_cfg(classifier(), tmp_path, length=2))
    with pytest.raises(DistillationError, match='holds no distillation state'):
        run(run_cfg(distilled(classifier()), tmp_path, epochs=2, length=2, hooks=[update_hook('mmpretrain')], resume=True))


def test_a_checkpoint_of_version_0_1_is_refused_with_what_to_do_and_works_as_load_from(tmp_path):
    cfg = distilled(classifier(), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4']))
    run(run_cfg(cfg, tmp_path, length=2))
    path = tmp_path / 'epoch_1.pth'
    content = open_checkpoint(path)
    content['mmkd']['version'] = 1
    torch.save(content, path)
    with pytest.raises(DistillationError, match=r'mmkd.version: 1 .*version 2 or 3\. Finish the run with .*0\.1.*load_from'):
        run(run_cfg(cfg, tmp_path, epochs=2, length=2, resume=True))
    _, losses = run(run_cfg(cfg, tmp_path / 'new', length=2, load_from=str(path)))
    assert len(losses) == 1, 'a run that begins'
