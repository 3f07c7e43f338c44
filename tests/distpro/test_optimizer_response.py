"""The hypergradient under any known optimiser, against autograd through its real step, in float64."""
import pytest
import torch
from distpro_runs import hook_of, search_cfg
from distpro_truth import CASES, assert_exact, error, groups, smooth_model
from mmengine.logging import MessageHub
from zoo import run

from mmkd_plugin.search import Clipping
from mmkd_plugin.search.optimizer_response import RESPONSES, StepWatch

SGD, ADAM, RMSPROP = torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop
VARIANTS = {
    'damped': (SGD, dict(lr=.05, momentum=.9, dampening=.3, weight_decay=.01)),
    'amsgrad': (ADAM, dict(lr=.01, amsgrad=True)),
    'maximize': (ADAM, dict(lr=1e-4, maximize=True, weight_decay=.01)),
    'centered': (RMSPROP, dict(lr=.01, centered=True, momentum=.5)),
    'Adagrad': (torch.optim.Adagrad, dict(lr=.05, lr_decay=.1, weight_decay=.01))}


@pytest.mark.slow
@pytest.mark.parametrize('max_norm', [None, .05], ids=['unclipped', 'clipped'])
@pytest.mark.parametrize('name', list(CASES))
def test_it_is_exact_early_and_late_in_a_training(name, max_norm):
    assert_exact(smooth_model(), name, (0, 3, 30, 150), max_norm)


@pytest.mark.parametrize('gradients', [True, False], ids=['from the backward', 'transforms in forward mode'])
@pytest.mark.parametrize('max_norm', [.05, 1e9], ids=['clipped', 'never clipped'])
@pytest.mark.parametrize('name', list(VARIANTS))
def test_so_it_is_with_other_options(name, max_norm, gradients):
    kind, options = VARIANTS[name]
    model = smooth_model()
    optimiser = kind(groups(model), **options)
    for number in range(4):
        found, clipped = error(model, optimiser, number, max_norm, gradients)
        assert found < 1e-6, number
        assert clipped == (max_norm < 1)


def test_clipping_by_value_lets_the_numbers_inside_through():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimiser = SGD([weight], lr=.1)
    watch = StepWatch(optimiser, dict(weight=weight), clipping=Clipping(.5, True, lambda: 0.))
    weight.grad = torch.tensor([.2, -3., .4])
    torch.nn.utils.clip_grad_value_([weight], .5)
    optimiser.step()
    assert torch.equal(watch.response.rates['weight'], torch.tensor([.1, 0, .1]))


def test_a_weight_without_any_gradient_so_far_does_not_move():
    # Of Adam's step the derivative there is lr / eps: a jump from 0 to lr at once.
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = ADAM([weight], lr=.1)
    watch = StepWatch(optimiser, dict(weight=weight))
    weight.grad = torch.tensor([0., 1.])
    optimiser.step()
    assert watch.response.rates['weight'][0] == 0
    assert watch.response.rates['weight'].isfinite().all()


def test_a_step_that_is_left_out_has_no_response():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = SGD([weight], lr=.1)
    watch = StepWatch(optimiser, dict(weight=weight))
    watch.forget()
    weight.grad = torch.ones(2)
    optimiser.step()
    assert watch.response is None


@pytest.mark.parametrize('clip', [dict(max_norm=.1), dict(type='value', clip_value=1e-3)], ids=['norm', 'value'])
def test_a_run_that_clips_is_searched(tmp_path, clip):
    importance = []
    for folder, given in (('clipped', clip), ('plain', None)):
        MessageHub._instance_dict.clear()
        cfg = search_cfg(tmp_path / folder, length=2, hook=dict(lr=.5))
        cfg.optim_wrapper.clip_grad = given
        runner, _ = run(cfg)
        assert hook_of(runner).search.skipped == 0
        importance.append(hook_of(runner).search.state()['optimiser']['state'][0]['exp_avg'])
    assert not torch.allclose(*importance, rtol=1e-3)


@pytest.mark.slow
def test_an_unknown_optimiser_is_named_once_and_its_step_taken_for_the_rate_times_the_gradient(tmp_path):
    cfg = search_cfg(tmp_path, length=8)
    cfg.optim_wrapper.optimizer = dict(type='Adadelta', lr=.1)
    cfg.log_level = 'INFO'
    runner, _ = run(cfg)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('how a step of Adadelta depends on its gradient is not known here') == 1
    assert hook_of(runner).search.skipped == 0
    assert torch.optim.Adadelta not in RESPONSES
