"""Hinton's KD; number T8 of the specification."""
import pytest
import torch
from zoo import batch, build, classifier, distilled, pspnet

from mmkd_plugin.baselines import LogitsDistiller
from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses import kl_divergence


def test_T8_divergence_of_two_classes():
    value = kl_divergence(torch.tensor([[0., 0]]), torch.tensor([[2., 0]]), 1.5)
    assert value.item() == pytest.approx(.4073, abs=1e-4)


def test_equal_logits_cost_nothing_and_the_teacher_gets_no_gradient():
    teacher = torch.randn(3, 5, requires_grad=True)
    student = (teacher.detach() + 2).requires_grad_()
    kl_divergence(student, teacher, 2.).sum().backward()
    assert student.grad.abs().max() < 1e-6
    assert teacher.grad is None


def test_class_logits_end_to_end():
    model = build(distilled(classifier(), kd=dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], temperature=4.)))
    model.eval()
    data = model.data_preprocessor(batch('mmpretrain'), True)
    loss = model(**data, mode='loss')['kd.loss_kd']
    ours = model(data['inputs'], mode='tensor').softmax(1)
    student = model.head.fc(model.extract_feat(data['inputs'])[0])
    teacher = model.distillation.teacher.features(data['inputs'])['head.fc']
    expected = torch.nn.functional.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction='batchmean') * 16
    assert ours.shape == (2, 5)
    torch.testing.assert_close(loss, expected)


def test_ignored_pixels_do_not_count():
    model = build(distilled(pspnet(), kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'])))
    distiller = model.distillation.kd
    data = model.data_preprocessor(batch('mmseg'), True)  # the uppermost 8 rows of every label are 255
    student, teacher = ({'decode_head.conv_seg': torch.randn(2, 5, 8, 8)} for _ in range(2))
    value = distiller(student, teacher, Batch(data['inputs'], data['data_samples'], 0))['loss_kd']
    student['decode_head.conv_seg'][:, :, 0] += torch.randn(2, 5, 8) * 100
    assert torch.equal(distiller(student, teacher, Batch(data['inputs'], data['data_samples'], 0))['loss_kd'], value)
    student['decode_head.conv_seg'][:, 0, 1] += 1
    assert distiller(student, teacher, Batch(data['inputs'], data['data_samples'], 0))['loss_kd'] != value


def test_the_weight_follows_its_schedule():
    distiller = LogitsDistiller(pairs=['head.fc'], loss_weight=2., begin=10, end=20, warmup=4)
    assert [distiller.weight_at(iteration) for iteration in (0, 9, 10, 11, 13, 19, 20, 100)] == [0, 0, .5, 1, 2, 2, 0, 0]
