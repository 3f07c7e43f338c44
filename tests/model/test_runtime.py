"""The teacher's runtime in a training run: chosen once, kept in the checkpoint, alike on all ranks, never without need."""
import logging
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from resume_runs import differences, epochs_cfg, interrupted, with_drops
from zoo import batch, build, classifier, distilled, run

from mmkd_plugin.runtime import trial
from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.isolation import pack_rng_state

FOLDED = dict(teacher=dict(fold_bn=True, channels_last=False))


def taught(runtime, **options):
    return distilled(classifier(4), classifier(4), dict(allow_random_weights=True, runtime=runtime),
                     l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], **options))


def fastest_is(monkeypatch, name):
    """The measurement is as ever, but short, and what it comes to is settled: times of a busy machine are no test's."""
    monkeypatch.setattr(trial, 'MOST_ROUNDS', 1)
    monkeypatch.setattr(trial, 'choose', lambda *_: name)


def steps(model, count=2):
    """Losses of training forwards on one batch."""
    data = model.data_preprocessor(batch('mmpretrain'), True)
    return [{name: value.detach() for name, value in model(**deepcopy(data), mode='loss').items()} for _ in range(count)]


@pytest.mark.parametrize(('runtime', 'fastest'), [
    ('auto', 'fold_bn'), ('auto', 'fold_bn + channels_last'), ('auto', 'plain'), (dict(fold_bn=True), ''),
    (dict(channels_last=True, stream=True), '')], ids=['folded', 'both', 'plain', 'folded-by-config', 'format-by-config'])
def test_the_losses_are_the_plain_teachers_and_nothing_is_drawn(runtime, fastest, monkeypatch):
    fastest_is(monkeypatch, fastest)
    plain, other = build(taught('plain')).train(), build(taught(runtime)).train()
    other.load_state_dict(plain.state_dict())
    other.distillation.load_state_dict(plain.distillation.state_dict())
    other.distillation.teacher.model.load_state_dict(plain.distillation.teacher.model.state_dict())
    expected, before = steps(plain), pack_rng_state()
    hashed = other.distillation.teachers.identity['sha256']
    for found, wanted in zip(steps(other), expected):
        assert torch.equal(found['student.loss'], wanted['student.loss'])
        assert torch.allclose(found['l2.loss_layer2'], wanted['l2.loss_layer2'], rtol=1e-5)
    assert torch.equal(pack_rng_state(), before)
    assert other.distillation.teachers.identity['sha256'] == hashed, 'the weights as they were loaded'
    choice = dict(teacher=dict(fold_bn='fold' in fastest, channels_last='channels' in fastest))
    assert other.distillation.teachers.choices == (choice if runtime == 'auto' else None)


def test_one_line_says_what_was_measured(monkeypatch):
    fastest_is(monkeypatch, 'fold_bn')
    model = build(taught('auto')).train()
    lines = []
    monkeypatch.setattr('mmkd_plugin.runtime.network.print_log', lambda text, *_, **__: lines.append(text))
    steps(model, 3)
    line, = lines
    assert line.startswith('model.teacher.runtime: fold_bn (plain: ')
    assert all(part in line for part in (' fold_bn + channels_last ', ', channels_last ', ' apart)', ' rounds, '))


def test_nothing_is_measured_while_no_distiller_acts_or_outside_of_a_step():
    model = build(taught('auto', loss_weight=0)).train()
    steps(model)
    assert model.distillation.teachers.choices is None
    images = torch.zeros(2, 3, 64, 64)
    model.distillation.teacher.features(images)
    assert model.distillation.teachers.choices is None


@pytest.mark.slow
def test_a_resumed_run_is_bit_equal_and_takes_what_was_chosen(tmp_path, monkeypatch):
    runs = iter(['fold_bn', 'fold_bn', 'channels_last'])  # the third one is resumed: it would choose otherwise
    monkeypatch.setattr(trial, 'MOST_ROUNDS', 1)

    def before(runner):
        name = next(runs)
        monkeypatch.setattr(trial, 'choose', lambda *_: name)
        with_drops(runner)

    def make(folder, **options):
        return epochs_cfg(folder, 2, 4, model=taught('auto'), **options)

    whole, resumed, losses, later = interrupted(make, tmp_path, epoch=1, before=before)
    assert losses == later
    assert differences(whole, resumed) == []
    assert whole.model.distillation.teachers.choices == resumed.model.distillation.teachers.choices == FOLDED
    assert open_checkpoint(tmp_path / 'half' / 'epoch_2.pth')['mmkd']['runtime'] == FOLDED


def test_a_plain_run_keeps_nothing_and_a_config_that_says_otherwise_is_told(tmp_path, monkeypatch):
    run(epochs_cfg(tmp_path / 'plain', 1, 2, model=taught('plain')))
    assert 'runtime' not in open_checkpoint(tmp_path / 'plain' / 'epoch_1.pth')['mmkd'], 'as before there was a choice'
    fastest_is(monkeypatch, 'fold_bn')
    run(epochs_cfg(tmp_path / 'auto', 1, 2, model=taught('auto')))
    told = []
    monkeypatch.setattr('mmkd_plugin.runtime.network.print_log', lambda text, *_, level: told.append((text, level)))
    runner, losses = run(epochs_cfg(tmp_path / 'auto', 2, 2, model=taught('plain'), resume=True))
    assert len(losses) == 1
    assert runner.model.distillation.teachers.choices is None
    (text, level), = told
    assert level == logging.WARNING
    assert "was 'auto' when the run began, which chose fold_bn; now the config says otherwise" in text


@pytest.mark.parametrize(('runtime', 'message'), [
    ('fastest', r"model\.teacher\.runtime: 'fastest'.*'plain', 'auto'"),
    (dict(fold=True), r"model\.teacher\.runtime\.fold: .*Did you mean 'fold_bn'"),
    (dict(precision='bfloat16'), r"model\.teacher\.runtime\.precision: 'bfloat16' is for a GPU")],
    ids=['name', 'key', 'precision'])
def test_a_runtime_that_cannot_be_is_one_error_with_its_key(runtime, message):
    with pytest.raises(DistillationError, match=message):
        steps(build(taught(runtime)).train())


@pytest.mark.slow
def test_two_ranks_take_what_the_first_has_measured(tmp_path):
    worker = Path(__file__).parent / 'runtime_worker.py'
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', str(worker),
               str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f'rank{rank}.pt', weights_only=True) for rank in range(2)]
    assert ranks == [dict(choices=FOLDED, passes_on=True)] * 2
