"""What is NaN or infinite is named in its own iteration: taps, losses of distillers, weights of adapters."""
import math
from contextlib import suppress

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.model.non_finite import NonFiniteWatch
from mmkd_plugin.utils.errors import DistillationError

L2 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])
BAD = [math.nan, math.inf, -math.inf]


def losses(**values):
    return dict(one={name: torch.tensor(value) for name, value in values.items()})


@pytest.mark.parametrize('value', BAD, ids=str)
def test_a_loss_is_named_with_its_distiller_and_iteration(value):
    watch = NonFiniteWatch()
    watch.look_at_losses(losses(loss_a=1.0, loss_b=2.0), 4)
    message = '^model.distillers.one: loss_b was NaN or infinite in iteration 5. Lower its loss_weight or loss_scale'
    with pytest.raises(DistillationError, match=message):
        watch.look_at_losses(losses(loss_a=1.0, loss_b=value), 5)


@pytest.mark.parametrize('value', BAD, ids=str)
@pytest.mark.parametrize(('role', 'hint'), [('student', 'optim_wrapper.optimizer.lr'), ('teacher', 'Check its checkpoint')])
def test_a_feature_is_named_with_its_side_and_iteration(value, role, hint):
    feature = torch.zeros(1, 2, 2, 2)
    feature[0, 1, 0, 1] = value
    with pytest.raises(DistillationError, match=f"tap 'a.b' of the {role} held NaN or infinity in iteration 3.*{hint}"):
        NonFiniteWatch().look({role: {'a.b': feature}}, 3)


def test_what_is_finite_passes():
    watch = NonFiniteWatch()
    watch.look(dict(student=dict(a=torch.full((1, 2), 3e38)), teacher={}), 0)
    watch.look_at_losses(losses(loss_a=3e38), 0)
    watch.report()


def test_the_first_iteration_is_the_one_that_is_named():
    """As on a GPU, where nothing is read before it is asked for."""
    watch = NonFiniteWatch()
    for iteration, value in enumerate([1.0, math.inf, 2.0, math.nan]):
        with suppress(DistillationError):
            watch.look_at_losses(losses(loss_a=value), iteration)
    with pytest.raises(DistillationError, match='loss_a was NaN or infinite in iteration 1'):
        watch.report()


def test_weights_that_are_not_finite_are_named_when_asked_for():
    adapter = nn.Linear(2, 2)
    watch = NonFiniteWatch(lambda: dict(one=adapter))
    watch.report()
    with torch.no_grad():
        adapter.weight[0, 0] = math.inf
    with pytest.raises(DistillationError, match='^model.distillers.one: the weights weight are NaN or infinite'):
        watch.report()


def run_with(tmp_path, hook, **options):
    cfg = run_cfg(distilled(classifier(), one=dict(L2, **options)), tmp_path, length=6)
    run(cfg, before=lambda runner: runner.register_hook(hook))


class Spoil(Hook):
    """Makes a weight of the adapter infinite before an iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1:
            with torch.no_grad():
                runner.model.distillation.one.adapters[0].weight[0, 0] = math.inf


def test_an_infinite_adapter_is_named_with_the_loss_it_spoils(tmp_path):
    message = ('^model.distillers.one: loss_layer4 was NaN or infinite in iteration 1, and so are its weights '
               'adapters.0.weight')
    with pytest.raises(DistillationError, match=message):
        run_with(tmp_path, Spoil())


def test_a_weight_that_makes_a_finite_loss_infinite_is_named_in_the_first_iteration(tmp_path):
    class Grow(Hook):
        def before_train(self, runner):
            with torch.no_grad():
                runner.model.distillation.one.adapters[0].weight.fill_(1e3)

    with pytest.raises(DistillationError, match='^model.distillers.one: loss_layer4 was NaN or infinite in iteration 0'):
        run_with(tmp_path, Grow(), loss_weight=3e38)


def test_weights_that_the_last_step_has_spoiled_are_not_called_a_result(tmp_path):
    class SpoilLast(Hook):
        priority = 'VERY_HIGH'

        def after_train(self, runner):
            with torch.no_grad():
                runner.model.distillation.one.adapters[0].bias[0] = math.nan

    with pytest.raises(DistillationError, match='^model.distillers.one: the weights adapters.0.bias are NaN or infinite'):
        run_with(tmp_path, SpoilLast())
