"""``mask_padding``: what lies outside of the images, or is to be ignored, has no part in any loss, norm or matching."""
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from torch import nn
from zoo import batch, build, distilled, mgd, pspnet, retinanet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses.valid_area import ValidArea, masked_mean, masked_norm
from mmkd_plugin.utils.errors import DistillationError

TAP = 'backbone.layer2@preact'
DISTILLERS = dict(
    mgd=mgd(TAP, margin='none', norm='GN'), batch_norm=mgd(TAP, margin='none', norm='BN'),
    summed=mgd(TAP, margin='none', norm=None, reduction='sum'), l2=dict(type='mmkd.FeatureDistiller', pairs=[TAP]))


def padded_batch(size=(64, 256), valid=((64, 40), (48, 64))):
    """Two images of different sizes in one batch of a detector, padded right and below."""
    data = batch('mmdet')
    for sample, (height, width) in zip(data['data_samples'], valid):
        sample.set_metainfo(dict(img_shape=(height, width), batch_input_shape=size, pad_shape=size))
    inputs = torch.zeros(2, 3, *size)
    for number, (height, width) in enumerate(valid):
        inputs[number, :, :height, :width] = torch.randn(3, height, width)
    return inputs, data['data_samples']


def detector(**distillers):
    model = build(distilled(retinanet(), **distillers))
    for distiller in model.distillation.distillers.values():
        for stage in getattr(distiller, 'stages', ()):
            stage.assignment.copy_(torch.arange(stage.assignment.numel()).view_as(stage.assignment))
            stage.matched = True
    return model.train()


@pytest.mark.parametrize(('image', 'cells', 'valid'), [
    (64, 8, 64), (64, 8, 60), (64, 8, 59), (64, 8, 33), (64, 8, 32), (64, 8, 1), (50, 7, 31), (224, 7, 112)])
def test_a_cell_counts_if_its_centre_lies_in_the_image(image, cells, valid):
    inputs, samples = padded_batch((image, image), ((valid, image), (image, image)))
    mask = ValidArea(None).cells(Batch(inputs, samples, 0), (cells, cells))
    inside = torch.tensor([(cell + 0.5) * image / cells < valid for cell in range(cells)])
    expected = torch.ones(2, 1, cells, cells, dtype=torch.bool)
    expected[0, 0] = inside.view(-1, 1)
    assert mask is None if expected.all() else torch.equal(mask, expected)


def test_segmentation_is_masked_only_where_asked_for():
    model = build(distilled(pspnet()))
    data = model.data_preprocessor(batch('mmseg'), True)  # the uppermost 8 rows have no label
    given = Batch(data['inputs'], data['data_samples'], 0)
    assert ValidArea(None).cells(given, (8, 8)) is None
    assert ValidArea(False).cells(given, (8, 8)) is None
    mask = ValidArea(True).cells(given, (8, 8))
    assert not mask[:, :, 0].any()
    assert mask[:, :, 1:].all()


def test_padding_of_segmentation_batches_is_known():
    model = build(distilled(pspnet()))
    model.data_preprocessor.size = (96, 64)
    data = model.data_preprocessor(batch('mmseg'), True)
    mask = ValidArea(True, ignore_index=-1).cells(Batch(data['inputs'], data['data_samples'], 0), (12, 8))
    assert not mask[:, :, :8].logical_not().any()
    assert not mask[:, :, 8:].any()


def test_ignored_boxes_do_not_count():
    inputs, samples = padded_batch((64, 64), ((64, 64), (64, 64)))
    samples[1].ignored_instances = InstanceData(bboxes=torch.tensor([[8., 16, 24, 32]]))
    mask = ValidArea(None).cells(Batch(inputs, samples, 0), (8, 8))
    assert mask[0].all()
    assert sorted(map(tuple, (~mask[1, 0]).nonzero().tolist())) == [(2, 1), (2, 2), (3, 1), (3, 2)]


@pytest.mark.parametrize('name', DISTILLERS)
def test_pixels_of_the_padding_change_no_distillation_loss(name):
    model = detector(**{name: DISTILLERS[name]})
    inputs, samples = padded_batch()
    # A feature sees beyond its cell: what is changed lies further from the images than layer2 sees (47 pixels).
    other = inputs.clone()
    other[:, :, :, 128:] = torch.randn(2, 3, 64, 128) * 3
    features = [model.distillation.features(model, Batch(images, samples, 0), [name])[0][TAP] for images in (inputs, other)]
    assert not torch.equal(*features)
    before, after = (ours(model, images, samples, name) for images in (inputs, other))
    assert before
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-5, atol=0)
        assert value > 0


@pytest.mark.parametrize('name', DISTILLERS)
def test_with_the_mask_off_the_padding_counts(name):
    model = detector(**{name: dict(DISTILLERS[name], mask_padding=False)})
    inputs, samples = padded_batch()
    other = inputs.clone()
    other[:, :, :, 128:] = torch.randn(2, 3, 64, 128) * 3
    before, after = (ours(model, images, samples, name) for images in (inputs, other))
    assert all(abs(after[key] - value) > 1e-3 * value for key, value in before.items())


def ours(model, inputs, samples, name):
    """The distillation losses of a batch; batch norms of the networks in eval mode (as frozen ones are)."""
    model.eval()
    getattr(model.distillation, name).train()
    with torch.no_grad():
        losses = model(inputs, samples, mode='loss')
    return {key: value for key, value in losses.items() if key.startswith(name)}


@pytest.mark.parametrize('name', DISTILLERS)
def test_no_gradient_reaches_the_padding(name):
    model = detector(**{name: DISTILLERS[name]})
    inputs, samples = padded_batch()
    student, teacher = model.distillation.features(model, Batch(inputs, samples, 0), [name])
    feature = student[TAP].clone().requires_grad_()
    given = Batch(inputs, samples, 0)
    sum(getattr(model.distillation, name)({TAP: feature}, teacher, given).values()).backward()
    valid = ValidArea(None).cells(given, feature.shape[2:])
    assert feature.grad.where(valid, torch.zeros(())).abs().sum() > 0
    assert (feature.grad.masked_select(~valid) == 0).all()


def test_matching_costs_are_those_of_the_images_alone():
    model = detector(mgd=DISTILLERS['mgd'])
    distiller = model.distillation.mgd
    inputs, samples = padded_batch(valid=((64, 40), (64, 40)))
    student, teacher = (torch.randn(2, channels, 8, 32) for channels in (16, 32))
    statistics, cropped = distiller.start_update(), distiller.start_update()
    distiller.accumulate(statistics, {TAP: student}, {TAP: teacher}, Batch(inputs, samples, 0))
    distiller.accumulate(cropped, {TAP: student[..., :5]}, {TAP: teacher[..., :5]}, Batch(inputs[..., :40], samples, 0))
    torch.testing.assert_close(statistics[0].cost(), cropped[0].cost())


@pytest.mark.parametrize('norm', [nn.BatchNorm2d(8), nn.GroupNorm(4, 8), nn.InstanceNorm2d(8),
                                  nn.GroupNorm(2, 8, affine=False), nn.Identity()])
def test_masked_norm_is_the_norm_of_what_is_valid(norm):
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    feature, valid = torch.randn(1, 8, 6, 5), torch.zeros(1, 1, 6, 5, dtype=torch.bool)
    valid[..., :4, :3] = True
    running = [buffer.clone() for buffer in norm.buffers()]
    masked = masked_norm(norm, feature, valid)
    after = [buffer.clone() for buffer in norm.buffers()]
    for buffer, value in zip(norm.buffers(), running):
        buffer.copy_(value)
    torch.testing.assert_close(masked[..., :4, :3], norm(feature[..., :4, :3]))
    for buffer, value in zip(norm.buffers(), after):
        torch.testing.assert_close(buffer, value)


def test_masked_mean():
    values = torch.arange(8.).view(1, 2, 2, 2)
    valid = torch.tensor([[[[True, False], [False, False]]]])
    assert masked_mean(values, valid) == 2  # of 0 and 4
    assert masked_mean(values, None) == values.mean()
    assert masked_mean(values, valid & False) == 0


def test_running_statistics_stay_where_no_cell_is_valid_and_average_without_momentum():
    norm = nn.BatchNorm2d(2, momentum=None)
    feature = torch.randn(1, 2, 3, 3) + 5
    masked_norm(norm, feature, torch.zeros(1, 1, 3, 3, dtype=torch.bool))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(2))
    everywhere = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    for number in (1, 2):
        masked_norm(norm, feature * number, everywhere)
    torch.testing.assert_close(norm.running_mean, feature.mean((0, 2, 3)) * 1.5)


def test_label_maps_of_detectors_are_known_by_their_own_name():
    inputs, samples = padded_batch((64, 64), ((64, 64), (64, 64)))
    for sample in samples:
        labels = torch.zeros(1, 64, 64, dtype=torch.long)
        labels[:, :16] = 254
        sample.gt_sem_seg = PixelData(sem_seg=labels, metainfo=dict(ignore_index=254))
    mask = ValidArea(None).cells(Batch(inputs, samples, 0), (8, 8))
    assert not mask[:, :, :2].any()
    assert mask[:, :, 2:].all()


@pytest.mark.parametrize('padded', [True, False])
def test_sync_bn_is_refused_whether_a_batch_is_padded_or_not(padded):
    model = detector(mgd=DISTILLERS['batch_norm'])
    model.distillation.mgd.stages[0].norm = nn.SyncBatchNorm(16)
    inputs, samples = padded_batch(valid=((64, 40), (48, 64)) if padded else ((64, 256), (64, 256)))
    with pytest.raises(DistillationError, match="'SyncBN' cannot leave out padding"):
        model(inputs, samples, mode='loss')


def test_what_cannot_be_masked_is_refused():
    with pytest.raises(DistillationError, match='mask_padding: True does not go with data samples that are a dict'):
        ValidArea(True).cells(Batch(torch.zeros(1, 3, 8, 8), dict(sup=[]), 0), (4, 4))
    assert ValidArea(None).cells(Batch(torch.zeros(1, 3, 8, 8), dict(sup=[]), 0), (4, 4)) is None
    with pytest.raises(DistillationError, match="mask_padding: 'yes'. Accepted: True or False, or None"):
        detector(l2=dict(DISTILLERS['l2'], mask_padding='yes'))


def test_a_mask_is_made_once_for_a_batch_and_a_resolution():
    inputs, samples = padded_batch()
    given = Batch(inputs, samples, 0)
    mask = ValidArea(None).cells(given, (8, 32))
    assert ValidArea(True).cells(given, (8, 32)) is mask
    assert ValidArea(None).cells(given, (4, 16)) is not mask
    assert ValidArea(False).cells(given, (8, 32)) is None
    assert ValidArea(None).cells(Batch(inputs, samples, 1), (8, 32)) is not mask


def test_where_it_cannot_be_switched_off_the_message_does_not_say_so():
    message = 'the data set gives data samples that are a dict. Accepted: a list'
    with pytest.raises(DistillationError, match=message) as caught:
        ValidArea(True, optional=False).cells(Batch(torch.zeros(1, 3, 8, 8), dict(sup=[]), 0), (4, 4))
    assert 'mask_padding' not in str(caught.value)
