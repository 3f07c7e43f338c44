"""Matching and reduction at every pair of widths in the specification, on the real networks with the shipped taps."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from zoo import build

from mmkd_plugin.distiller import Batch
from mmkd_plugin.mgd.matching import assign, assign_single, assignment_cost, cost_matrix, similarity_sum
from mmkd_plugin.mgd.reduction import absolute_max, gather_groups
from mmkd_plugin.taps.shapes import resize

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'

# C_s, C_t, g, teacher channels that are used
MOBILENET_V1 = [(128, 256, 2, 256), (256, 512, 2, 512), (512, 1024, 2, 1024), (1024, 2048, 2, 2048)]  # not in mmpretrain
TABLE = {
    'classification/imagenet/mgd-amp_resnet50-mobilenet-v2_8xb32_in1k.py':
        [(192, 512, 2, 384), (384, 1024, 2, 768), (960, 2048, 2, 1920)],
    'classification/cub/mgd-amp_resnet50-shufflenet-v2-1x_8xb8_cub.py':
        [(116, 512, 4, 464), (232, 1024, 4, 928), (464, 2048, 4, 1856)],
    'detection/coco/mgd-amp_retinanet_r50-r18-freeze0_fpn_1x_coco.py':
        [(64, 256, 4, 256), (128, 512, 4, 512), (256, 1024, 4, 1024), (512, 2048, 4, 2048)],
    'classification/imagenet/mgd-amp_resnet152-resnet50_8xb32_in1k.py':
        [(256, 256, 1, 256), (512, 512, 1, 512), (1024, 1024, 1, 1024), (2048, 2048, 1, 2048)],
}


def cost_by_definition(student, teacher):
    """2 - 2 * the mean over the images of the cosine, in float64; of a channel that is all zero, the cosine is 0."""
    student, teacher = (feature.double().flatten(2) for feature in (student, teacher))
    norms = student.norm(dim=2)[:, :, None] * teacher.norm(dim=2)[:, None]
    return 2 - 2 * (student @ teacher.transpose(1, 2) / norms.clamp(min=1e-24)).mean(0)


def least_cost(cost, copies):
    """Of giving every student channel ``copies`` teacher channels, by another solver and from the teacher's side.

    Rows are teacher channels, columns the copies of student channels, those of one channel side by side.
    """
    weights = cost.repeat_interleave(copies, 0).t().contiguous() + 1  # a sparse matrix knows no edge of weight 0
    rows, columns = min_weight_full_bipartite_matching(csr_matrix(weights.numpy()))
    return float((weights[rows, columns] - 1).sum())


def target_by_definition(teacher, assignment, margins):
    """Channel by channel: the member of the group with the largest magnitude, and the group's mean margin."""
    target, margin = [], []
    for group in assignment.tolist():
        members = teacher[:, group]
        target.append(members.gather(1, members.abs().argmax(1, keepdim=True)).squeeze(1))
        margin.append(sum(margins[channel] for channel in group) / len(group))
    return torch.stack(target, 1), torch.stack(margin)


def check(widths, student, teacher, assignment, margins):
    channels_s, channels_t, group, used = widths
    assert (student.shape[1], teacher.shape[1]) == (channels_s, channels_t)
    assert assignment.shape == (channels_s, group)
    # Every channel below `used` exactly once; the last channels_t - used are dropped.
    assert sorted(assignment.flatten().tolist()) == list(range(used))

    cost = cost_by_definition(student, teacher)
    torch.testing.assert_close(cost_matrix(similarity_sum(student, teacher), len(student)).double(), cost, atol=1e-5, rtol=0)
    total = assignment_cost(cost, assignment)
    assert total == pytest.approx(least_cost(cost[:, :used], group), rel=1e-5)
    if group > 1:  # else sparse matching is the same problem
        single = assign_single(cost)
        assert len(set(single.flatten().tolist())) == channels_s
        assert assignment_cost(cost, single) == pytest.approx(least_cost(cost, 1), rel=1e-9)

    target, margin = absolute_max(gather_groups(teacher, assignment), margins[assignment])
    expected, expected_margin = target_by_definition(teacher, assignment, margins)
    assert torch.equal(target, expected)
    torch.testing.assert_close(margin, expected_margin)
    return total


@pytest.mark.parametrize('widths', [*MOBILENET_V1[:3], pytest.param(MOBILENET_V1[3], marks=pytest.mark.slow)], ids=str)
def test_matching_and_reduction_are_exact_at_the_widths_of_mobilenet_v1(widths):
    student, teacher = torch.randn(2, widths[0], 3, 3), torch.randn(2, widths[1], 3, 3)
    assignment = assign(cost_matrix(similarity_sum(student, teacher), 2))
    check(widths, student, teacher, assignment, -torch.rand(widths[1]))


@pytest.mark.slow
@pytest.mark.parametrize('name', TABLE, ids=lambda name: Path(name).stem)
def test_matching_and_reduction_are_exact_on_the_networks_of_the_table(name):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.teacher.update(checkpoint=None, allow_random_weights=True)
    init_default_scope(cfg.default_scope)
    model = build(cfg.model).eval()
    mgd = model.distillation.mgd
    statistics = mgd.start_update()
    seen = []
    for size in (1, 2):
        images = torch.randn(size, 3, 64, 64)
        features = model.distillation.features(model, Batch(images, None, 0), ['mgd'])
        mgd.accumulate(statistics, *features, Batch(images, None, 0))
        seen.append(features)
    mean_costs = mgd.finish_update(statistics)
    assert len(mgd.pairs) == len(TABLE[name])
    for (student_tap, teacher_tap), stage, widths in zip(mgd.pairs, mgd.stages, TABLE[name]):
        student = torch.cat([features[student_tap] for features, _ in seen])
        teacher = resize(torch.cat([features[teacher_tap] for _, features in seen]), student.shape[2:])
        total = check(widths, student, teacher, stage.assignment, stage.margins)
        assert mean_costs[stage.name] * stage.assignment.numel() == pytest.approx(total, rel=1e-5)
