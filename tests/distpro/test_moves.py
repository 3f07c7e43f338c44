"""How the importance moves: Adam, by the mean of a window, resting at first."""
import json

import pytest
import torch
from distpro_runs import NAMES, distpro, endless, hook_of, interrupted, same_weights, scalars, search_cfg
from zoo import run

from mmkd_plugin.distpro import read_process
from mmkd_plugin.distpro.moves import WATCHED, Moves, step_size
from mmkd_plugin.distpro.significance import relative_entropy, significance
from mmkd_plugin.utils.errors import DistillationError

BETAS = (.5, .999)
GRADIENTS = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def moves(window=1, lr=.1):
    return Moves(torch.ones(4, dtype=torch.float64), lr, BETAS, window)


def by_adam(gradients, lr=.1):
    """The values after each step of torch's Adam."""
    value = torch.ones(4, dtype=torch.float64, requires_grad=True)
    optimiser, values = torch.optim.Adam([value], lr=lr, betas=BETAS), []
    for gradient in gradients:
        value.grad = gradient.clone()
        optimiser.step()
        values.append(value.detach().clone())
    return values


def test_the_step_size_is_the_papers_as_a_share_of_its_length():
    assert step_size(12480) == step_size(10 ** 6) == .05
    assert step_size(1000) == pytest.approx(.004006, rel=1e-3)
    assert [step_size(steps) * steps for steps in (100, 500)] == pytest.approx([2, 2])
    assert step_size(4) == .05


def test_without_a_window_it_is_adam():
    one, expected = moves(), by_adam(GRADIENTS)
    for gradient, value in zip(GRADIENTS, expected):
        assert one.take(gradient)
        assert torch.equal(one.value, value)
    assert one.evidence.windows == 12 // WATCHED


def test_with_a_window_it_is_adam_on_its_means():
    one = moves(window=3)
    moved = [one.take(gradient) for gradient in GRADIENTS]
    assert moved == [False, False, True] * 4
    expected = by_adam(GRADIENTS.view(4, 3, 4).mean(1))[-1]
    torch.testing.assert_close(one.value, expected, rtol=0, atol=1e-12)


def test_at_rest_the_importance_stays_and_adam_learns_how_large_gradients_are():
    one = moves()
    assert not any(one.take(gradient, rests=True) for gradient in GRADIENTS[:6])
    assert torch.equal(one.value, torch.ones(4).double())
    before = by_adam(GRADIENTS[:6])[-1]
    for gradient in GRADIENTS[6:]:
        assert one.take(gradient)
    torch.testing.assert_close(one.value - 1, by_adam(GRADIENTS)[-1] - before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(('window', 'cut'), [(1, 7), (3, 2), (3, 7)])
def test_moves_go_on_where_they_were(window, cut):
    whole, first = moves(window), moves(window)
    for gradient in GRADIENTS:
        whole.take(gradient)
    for gradient in GRADIENTS[:cut]:
        first.take(gradient)
    second = moves(window)
    second.value.copy_(first.value)
    second.load(first.state(), cut)
    for gradient in GRADIENTS[cut:]:
        second.take(gradient)
    assert torch.equal(second.value, whole.value)
    assert second.evidence.overall == whole.evidence.overall


def test_a_state_of_other_moves_is_refused():
    one = moves(window=3)
    for gradient in GRADIENTS[:4]:
        one.take(gradient)
    with pytest.raises(DistillationError, match='optimiser.state: .*what 2 steps have left'):
        moves(window=3).load(one.state(), 2)
    with pytest.raises(DistillationError, match='evidence.samples: a list of 1'):
        moves(window=3).load(one.state(), 5)
    with pytest.raises(DistillationError, match=r'param_groups\[0\].lr: 0.1'):
        moves(window=3, lr=.2).load(one.state(), 4)


def test_a_search_rests_moves_by_windows_and_says_how_sure_it_is(tmp_path):
    found = []

    def watch(runner):
        hook = hook_of(runner)
        before_train = hook.before_train

        def begin(runner):
            before_train(runner)
            take = hook.search.moves.take
            hook.search.moves.take = lambda gradient, rests: (found.append(gradient.double()), take(gradient, rests))[1]
        hook.before_train = begin

    cfg = search_cfg(tmp_path, epochs=2, length=12, hook=dict(lr=.01, window=3, rest=.3))
    runner, _ = run(cfg, before=watch)
    process = read_process(tmp_path / 'process.json')
    # Iterations 0 to 3 rest, so the first window leaves it at 1; the file has what each of 12 iterations used.
    assert [bool((one != other).any()) for one, other in zip(process.importance[1:], process.importance)] == [
        *[False] * 5, True, False, False, True, False, False]
    windows = torch.stack(found).view(4, 3, 3)
    expected = [-sum(significance(window)[member].item() for window in windows) / 2 for member in range(3)]
    said = process.stability
    assert said['significance'] == pytest.approx(expected, abs=1e-3)
    weights = list(runner.model.distillation.distpro.importance.weights(12).values())
    assert said['entropy'] == pytest.approx(relative_entropy(weights), abs=1e-4)
    assert (said['lr'], said['window'], said['rest'], said['steps']) == (.01, 3, .3, 12)
    last = scalars(tmp_path)[-1]
    assert last['distpro.entropy'] == pytest.approx(relative_entropy(weights), abs=1e-4)
    assert [last[f'distpro.{name}.significance'] for name in NAMES] == pytest.approx(expected, rel=1e-4)
    assert -1 <= last['distpro.agreement'] <= 1
    assert json.loads((tmp_path / 'process.json').read_text())['stability'] == said


@pytest.mark.parametrize('iteration', [3, 4], ids=['within a window', 'between windows'])
def test_a_search_that_is_interrupted_in_a_window_is_an_uninterrupted_one(tmp_path, iteration):
    def cfg(folder, **options):
        return endless(search_cfg(folder, hook=dict(window=2, rest=.2), **options))

    whole, resumed, losses, both = interrupted(cfg, tmp_path, iteration)
    assert both == losses
    assert same_weights(whole, resumed)
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()
    assert read_process(tmp_path / 'half/process.json').importance[-1].ne(1).any()
    logged = [{name: values.data[0].tolist() for name, values in runner.message_hub.log_scalars.items()
               if 'significance' in name or 'agreement' in name} for runner in (whole, resumed)]
    assert logged[0] == logged[1] != {}


@pytest.mark.parametrize(('options', 'end', 'steps'), [
    (dict(), None, 4), (dict(interval=2), None, 2), (dict(validation='next_batch'), None, 3),
    (dict(validation='next_batch'), 3, 2)], ids=['every iteration', 'every second', 'judged by the next', 'ends early'])
def test_the_step_size_follows_from_the_steps_of_the_search(tmp_path, options, end, steps):
    runner, _ = run(search_cfg(tmp_path, hook=dict(options, lr='auto'), distiller=distpro(end=end)))
    assert hook_of(runner).search.steps == steps
    said = read_process(tmp_path / 'process.json').stability
    assert said['lr'] == pytest.approx(step_size(steps))


def test_a_window_longer_than_the_search_is_refused(tmp_path):
    with pytest.raises(DistillationError, match='ProcessSearchHook.window: 5 is larger than the search is long.*up to 4'):
        run(search_cfg(tmp_path, hook=dict(window=5)))


def test_a_rest_as_long_as_the_search_is_refused(tmp_path):
    with pytest.raises(DistillationError, match='ProcessSearchHook.rest: 0.8 takes up the whole search.*up to 0.75'):
        run(search_cfg(tmp_path, hook=dict(rest=.8)))
