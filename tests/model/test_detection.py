"""What detectors bring: batches resized at random in the preprocessor, pyramids."""
import torch
from mmengine.logging import MessageHub
from zoo import batch, build, distilled, mgd, retinanet


def test_student_and_teacher_see_the_same_geometry_when_batches_are_resized_at_random():
    student = retinanet()
    student['data_preprocessor']['batch_augments'] = [
        dict(type='BatchSyncRandomResize', random_size_range=(32, 192), size_divisor=32, interval=1)]
    teacher = retinanet(base_channels=16)
    teacher['data_preprocessor'].update(mean=[100.] * 3, std=[50.] * 3, batch_augments=student['data_preprocessor'][
        'batch_augments'])
    model = build(distilled(student, teacher, l2=dict(type='mmkd.FeatureDistiller', pairs=['neck[0]', 'neck[4]']))).train()
    seen = []
    for network in (model, model.distillation.teacher.model):
        network.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    sizes = set()
    MessageHub.get_current_instance().update_info('iter', 0)  # the preprocessor asks for it
    for start in range(8):
        losses = model(**model.data_preprocessor(batch('mmdet', start=start), True), mode='loss')
        ours, theirs = seen[-2:]
        torch.testing.assert_close((ours * 60 + 120 - 100) / 50, theirs)
        sizes.add(tuple(ours.shape[2:]))
        assert torch.isfinite(losses['l2.loss_neck0'])
    assert len(seen) == 16, 'one forward of each network per batch'
    assert len(sizes) > 1, 'the size is drawn anew'


def test_every_level_of_a_pyramid_can_be_tapped():
    levels = [f'neck[{level}]' for level in range(5)]
    model = build(distilled(retinanet(), mgd=mgd(*levels, margin='none', norm='GN'))).train()
    for stage in model.distillation.mgd.stages:
        stage.assignment.copy_(torch.arange(16).view_as(stage.assignment))
        stage.matched = True
    losses = model(**model.data_preprocessor(batch('mmdet'), True), mode='loss')
    ours = [value for key, value in losses.items() if key.startswith('mgd.loss')]
    assert len(ours) == 5
    sum(ours).backward()
    assert all(conv.conv.weight.grad.abs().sum() > 0 for conv in model.neck.fpn_convs)
    assert model.bbox_head.retina_cls.weight.grad is None
