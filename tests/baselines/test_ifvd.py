"""Intra-class feature variation: the specification's hand check, brute force, and the distiller on real networks."""
import pytest
import torch
import torch.nn.functional as F
from zoo import batch, build, classifier, distilled, pspnet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses.pixels import class_cosines, intra_class_variation
from mmkd_plugin.utils.errors import DistillationError


def pixels(*values):
    """One image of one row, a pixel for each value."""
    return torch.tensor(values).t()[None, :, None]


def test_hand_check():
    labels = torch.zeros(1, 1, 2, dtype=torch.long)
    student = pixels([1., 0.], [0., 1.])
    torch.testing.assert_close(class_cosines(student, labels, 1), torch.full((1, 1, 2), 0.7071067812))
    loss = intra_class_variation(student, pixels([2., 2.], [2., 2.]), labels, 1)
    assert loss.item() == pytest.approx(0.0857864376, rel=1e-6)


def test_prototypes_are_those_of_each_class_in_each_image_and_ignored_pixels_are_their_own():
    feature, labels = torch.randn(2, 5, 4, 6), torch.randint(0, 3, (2, 4, 6))
    labels[0, 0] = 255
    expected = torch.empty(2, 4, 6)
    for image in range(2):
        for label in labels[image].unique():
            mask = labels[image] == label
            if label == 255:  # each ignored pixel is its own prototype
                expected[image][mask] = 1
                continue
            mean = feature[image][:, mask].mean(1, keepdim=True)
            expected[image][mask] = F.cosine_similarity(feature[image][:, mask], mean, dim=0)
    torch.testing.assert_close(class_cosines(feature, labels, 3), expected)


def test_the_gradient_reaches_the_student_only():
    student, teacher = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 6, 4, 4, requires_grad=True)
    intra_class_variation(student, teacher, torch.randint(0, 2, (1, 4, 4)), 2).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def losses(mode='loss', **options):
    model = build(distilled(pspnet(), ifvd=dict(type='mmkd.IFVDDistiller', **options))).train()
    data = model.data_preprocessor(batch('mmseg'), True)
    return model, data, model(**data, mode=mode)


def test_both_losses_are_put_together_as_the_authors_do(mmseg_scope):
    taps = dict(pairs=['decode_head.bottleneck'])  # before the head's dropout, which draws anew
    model, data, found = losses(**taps)
    model.decode_head.dropout.p = 0.
    found = model(**data, mode='loss')
    distillation = model.distillation
    student, teacher = distillation.features(model, Batch(data['inputs'], None, 0), ['ifvd'])
    labels = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']])
    small = F.interpolate(labels.float(), (8, 8), mode='nearest')[:, 0].long()
    variation = 200 * intra_class_variation(student['decode_head.bottleneck'], teacher['decode_head.bottleneck'], small, 5)
    torch.testing.assert_close(found['ifvd.loss_variation'], variation, rtol=1e-4, atol=1e-5)
    ours, theirs = (features['decode_head.conv_seg'].softmax(1) for features in (student, teacher))
    torch.testing.assert_close(found['ifvd.loss_logits'], 10 * (theirs * (theirs / ours).log()).mean(), rtol=1e-3, atol=1e-6)


def test_other_classes_are_refused(mmseg_scope):
    cfg = distilled(pspnet(), pspnet(16, num_classes=7), ifvd=dict(type='mmkd.IFVDDistiller'))
    with pytest.raises(DistillationError, match=r'the student has 5 classes .*, the teacher 7'):
        build(cfg)


def test_data_without_label_maps_are_refused(mmpretrain_scope):
    model = build(distilled(classifier(), ifvd=dict(type='mmkd.IFVDDistiller', pairs=['backbone.layer4'],
                                                    logits=['head.fc'])))
    with pytest.raises(DistillationError, match='have no label maps'):
        model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
