"""Equations 3 and 10 to 12: numbers T3 to T11 and properties P6 and P12 of the specification."""
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmkd_plugin.dfa.aggregation import aggregate, aggregation_weights
from mmkd_plugin.dfa.bridge import (
    DISTANCE_FORMS,
    ST_FORMS,
    balance,
    bridge_loss,
    directional_distance,
    feature_distance,
    group_weights,
)


def feature(*values):
    """One sample (1, C, 1, 1) in double precision."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def at(beta):
    return torch.tensor(beta, dtype=torch.float64, requires_grad=True)


def close(value, *expected):
    torch.testing.assert_close(value.detach().flatten().double(), torch.tensor(expected, dtype=torch.float64),
                               rtol=0, atol=2e-7)


@pytest.mark.parametrize(('form', 'expected'), [('sq', .08), ('norm', .2828427125), ('mse', .04)])
def test_T3_forms_of_the_distance(form, expected):
    close(directional_distance(feature(3, 4), feature(4, 3), form), expected)
    close(directional_distance(feature(21, 28), feature(.4, .3), form), expected)


def test_T3_orthogonal_and_opposite():
    close(directional_distance(feature(1, 0), feature(0, 5)), 2)
    close(directional_distance(feature(1, 2), feature(-2, -4)), 4)


def test_P6_bounds_and_gradients_orthogonal_to_the_features():
    student, target = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64).requires_grad_().unbind(0)
    value = directional_distance(student, target)
    assert 0 <= float(value.detach()) <= 4
    for other, gradient in zip((student, target), torch.autograd.grad(value, [student, target])):
        inner = (gradient * other).flatten(1).sum(1)
        torch.testing.assert_close(inner, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    close(directional_distance(student, 3 * student), 0)


def test_the_norm_form_has_a_gradient_at_zero_distance():
    student = feature(3, 4).requires_grad_()
    gradient, = torch.autograd.grad(directional_distance(student, feature(6, 8), 'norm'), student)
    assert gradient.isfinite().all()


def aggregated(layers, beta):
    alpha = aggregation_weights(beta)
    return sum(weight * layer for weight, layer in zip(alpha, layers))


T4_LAYERS = [feature(1, 0), feature(0, 1)]


def st_of_t4(beta):
    return directional_distance(feature(1, 0), aggregated(T4_LAYERS, beta))


def ts_of_t6(beta):
    total = aggregated(T4_LAYERS, beta)
    logits = torch.stack([total.flatten()[1], torch.zeros((), dtype=torch.float64)])
    return F.cross_entropy(logits[None], torch.tensor([0]))


def test_T4_the_student_raises_the_layer_it_matches():
    beta = at([0, 0])
    value = st_of_t4(beta)
    close(value, .5857864376)
    close(torch.autograd.grad(value, beta)[0], -.7071067812, .7071067812)


def test_T5_the_task_raises_the_informative_layer():
    beta = at([0, 0])
    total = aggregated([feature(0), feature(2)], beta)
    value = F.cross_entropy(torch.cat([total.flatten(), torch.zeros(1, dtype=torch.float64)])[None], torch.tensor([0]))
    close(total, 1)
    close(value, .3132616875)
    close(torch.autograd.grad(value, beta)[0], .1344707107, -.1344707107)


def test_T6_the_two_paths_pull_in_opposite_directions():
    beta = at([0, 0])
    value = ts_of_t6(beta)
    close(value, .4740769842)
    close(torch.autograd.grad(value, beta)[0], .0943851672, -.0943851672)
    for gamma, sign in ((7.4917150877, 0), (7, -1), (8, 1)):
        gradient, = torch.autograd.grad(bridge_loss(st_of_t4(beta), ts_of_t6(beta), 1, gamma), beta)
        assert abs(float(gradient[0])) < 1e-9 if sign == 0 else float(gradient[0]) * sign > 0


def golden(beta, bias=None):
    layers = [feature(1, 0), feature(0, 1), feature(1, 1)]
    to_teacher = torch.tensor([1, .5], dtype=torch.float64, requires_grad=True)
    to_student = torch.tensor([.5, 1], dtype=torch.float64, requires_grad=True)
    student = torch.tensor(2., dtype=torch.float64, requires_grad=True)
    total = aggregated(layers, beta)
    adapted = (to_teacher * student + (0 if bias is None else torch.tensor(bias))).view(1, 2, 1, 1)
    st = directional_distance(adapted, total)
    x = 2 * (to_student * total.flatten()).sum()
    ts = F.cross_entropy(torch.stack([x, -x])[None], torch.tensor([0]))
    return st, ts, total, adapted, to_teacher, to_student, student


def test_T7_golden_bridge():
    beta = at([0, 0, 0])
    st, ts, total, adapted, to_teacher, to_student, student = golden(beta)
    close(total, 2 / 3, 2 / 3)
    close(st, .1026334039)
    close(ts, .0181499279)
    close(bridge_loss(st, ts, 1, 1), .1207833318)

    def gradient(value, of):
        return torch.autograd.grad(value, of, retain_graph=True)[0]

    close(gradient(st, beta), -.158113883, .158113883, 0)
    close(gradient(ts, beta), .0119908066, 0, -.0119908066)
    close(gradient(bridge_loss(st, ts, 1, 1), beta), -.1461230764, .158113883, -.0119908066)
    close(gradient(st, to_teacher), .2529822128, -.5059644256)
    close(gradient(ts, to_student), -.0479632266, -.0479632266)
    close(gradient(st, student), 0)
    # T8: plain L2 on the same features
    close(feature_distance(adapted, total, 'sum'), 1.8888888889)
    close(feature_distance(adapted, total, 'mean'), .9444444444)


def test_T7_away_from_the_origin_and_with_a_bias():
    beta = at([.1, -.2, .3])
    st, ts, total, *_ = golden(beta)
    close(aggregation_weights(beta), .3375845378, .2500887766, .4123266856)
    close(total, .7499112234, .6624154622)
    close(st, .0671573950)
    close(ts, .0156494544)
    close(torch.autograd.grad(st, beta, retain_graph=True)[0], -.1147913730, .0962720674, .0185193056)
    close(torch.autograd.grad(ts, beta)[0], .0112673612, .0005804906, -.0118478518)
    st, _, _, _, _, _, student = golden(at([0, 0, 0]), bias=(0, .3))
    close(st, .0435317498)
    close(torch.autograd.grad(st, student)[0], .0218809358)


def test_P12_the_bridge_is_linear_in_its_gammas():
    beta = at([.4, -.1, .2])
    st, ts, *_ = golden(beta)
    whole, st_alone, ts_alone = (torch.autograd.grad(value, beta, retain_graph=True)[0]
                                 for value in (bridge_loss(st, ts, .3, 1.7), st, ts))
    torch.testing.assert_close(whole, .3 * st_alone + 1.7 * ts_alone)


def descend(loss, beta, steps, regularisation=0., later=.5):
    for number in range(steps):
        gradient, = torch.autograd.grad(loss(beta), beta)
        gradient = gradient + regularisation * beta.detach()
        if float(gradient.abs().max()) < 1e-12:
            break
        beta = (beta.detach() - (.5 if number < 1000 else later) * gradient).requires_grad_()
    return aggregation_weights(beta.detach())


@pytest.mark.slow
@pytest.mark.parametrize(('gamma', 'start', 'expected'), [
    (0, (0, 0), .9711814), (1, (0, 0), .8494029), (3, (0, 0), .7099391), (7.4917150877, (0, 0), .5),
    (8, (0, 0), .4727940), (8, (-2, 2), .0193077), (20, (0, 0), .0010202)])
def test_T9_equilibrium_of_the_two_paths(gamma, start, expected):
    # Where alpha is saturated hardly anything moves any more; the place of rest does not depend on the step.
    alpha = descend(lambda beta: bridge_loss(st_of_t4(beta), ts_of_t6(beta), 1, gamma), at(start), 3000, 1e-3, later=20)
    assert float(alpha[0]) == pytest.approx(expected, abs=1e-7)


def test_T10_each_sample_is_normalised_by_itself():
    student = torch.tensor([[3, 4], [0, 10]], dtype=torch.float64).view(2, 2, 1, 1)
    target = torch.tensor([[4, 3], [0, 1]], dtype=torch.float64).view(2, 2, 1, 1)
    close(directional_distance(student, target), .04)
    close(directional_distance(student.view(1, -1, 1, 1), target.view(1, -1, 1, 1)), .8072010937)


@pytest.mark.slow
def test_T11_the_students_own_loss_collapses_to_the_layer_it_matches():
    layers, student = [feature(1, 0), feature(0, 1), feature(-1, 0)], feature(1, 0)

    def loss(beta):
        return feature_distance(student, aggregated(layers, beta), 'sum')

    close(loss(at([0, 0, 0])), 1.1111111)
    assert float(descend(loss, at([0, 0, 0]), 100)[0]) == pytest.approx(.95915, abs=1e-5)
    assert float(descend(loss, at([0, 0, 0]), 1000)[0]) == pytest.approx(.98776, abs=1e-5)
    assert float(descend(loss, at([0, 0, 0]), 4000)[0]) == pytest.approx(.99396, abs=1e-5)


def test_the_normalized_distance_is_that_of_the_search():
    student, target = torch.randn(2, 2, 3, 2, 2).unbind(0)
    assert torch.equal(feature_distance(student, target, 'normalized'), directional_distance(student, target))


@pytest.mark.parametrize('form', [*ST_FORMS, *DISTANCE_FORMS])
def test_a_distance_of_the_cells_that_count_is_that_of_the_cropped_maps(form):
    student, target = torch.randn(2, 2, 3, 4, 5).unbind(0)
    valid = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    valid[..., :3, :2] = True
    distance = directional_distance if form in ST_FORMS else feature_distance
    masked = distance(student, target, form, valid)
    torch.testing.assert_close(masked, distance(student[..., :3, :2], target[..., :3, :2], form))
    assert not torch.isclose(masked, distance(student, target, form))


def test_weights_of_groups():
    assert group_weights('sum', 3) == [.25, .5, 1]
    assert group_weights('mean', 3) == [1, 1, 1]


def test_the_balance_is_the_ratio_of_the_gradients_within_bounds():
    assert balance(3, 2) == 1.5
    assert balance(1, 1000) == .1
    assert balance(5, 0) == 10
    assert math.isclose(balance(1, .2), 5)


def test_aggregation_agrees_with_the_sum_written_out():
    layers = [torch.randn(1, 2, 3, 3) for _ in range(3)]
    alpha = aggregation_weights(torch.randn(3))
    torch.testing.assert_close(aggregate(layers, alpha), torch.tensordot(alpha, torch.stack(layers), 1))


WRN = ((64, 32), (128, 16), (256, 8))
SHUFFLENET, NARROW, RESNET = ((244, 16), (488, 8), (976, 4)), ((116, 16), (232, 8), (464, 4)), (
    (64, 56), (128, 28), (256, 14), (512, 7))


SCALES = [
    ('cifar100/dfa_wrn-28-4-wrn-16-2_200e_cifar100', WRN, 1e-3, 16.384),
    ('cifar100/dfa_wrn-28-4-wrn-16-4_200e_cifar100', WRN, 1e-3, 16.384),
    ('cifar100/dfa_wrn-28-4-wrn-28-2_200e_cifar100', WRN, 1e-3, 16.384),
    ('cinic10/dfa_shufflenet-v2-2.0x-1.0x_140e_cinic10', SHUFFLENET, 1e-3, 15.616),
    ('cinic10/dfa_shufflenet-v2-2.0x-0.5x_140e_cinic10', SHUFFLENET, 1e-3, 15.616),
    ('cinic10/dfa_shufflenet-v2-1.0x-0.5x_140e_cinic10', NARROW, 1e-3, 7.424),
    ('cinic10/dfa-t_wrn-28-4-wrn-16-2_140e_cinic10', WRN, 1e-3, 16.384),
    ('imagenet/dfa_resnet34-resnet18_8xb32_in1k', RESNET, 1e-4, 2.5088)]


@pytest.mark.parametrize(('config', 'groups', 'weight', 'times'), SCALES, ids=[config for config, *_ in SCALES])
def test_the_configs_have_the_scale_of_the_authors_framework(config, groups, weight, times):
    """``weight / B * sum_i L2 / 2^(G - i)``; a mean over all elements with weight 1 was so many times weaker."""
    root = Path(__file__).resolve().parents[2] / 'configs/classification'
    dfa = Config.fromfile(root / f'{config}.py').model.distillers.dfa
    for index, (channels, side) in enumerate(groups):
        student, target = torch.randn(2, 2, channels, side, side).double()
        ours = feature_distance(student, target, dfa.distance) * group_weights(dfa.distance, len(groups))[index]
        expected = weight / 2 * (student - target).square().sum() / 2 ** (len(groups) - 1 - index)
        torch.testing.assert_close(ours * dfa.loss_weight, expected)
        assert float(expected / feature_distance(student, target)) == pytest.approx(times)
