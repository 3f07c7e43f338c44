"""MGD where features are stored differently: inverted residuals, shuffled branches, ConvNeXt, windows, tokens, pyramids."""
import pytest
import torch
from zoo import batch, build, classifier, distilled, mgd, retinanet

from mmkd_plugin.distiller import Batch
from mmkd_plugin.losses.margins import margins_from_norm
from mmkd_plugin.mgd import distiller as distiller_module


def network(channels, head='LinearClsHead', neck='GlobalAveragePooling', **backbone):
    return dict(type='ImageClassifier', _scope_='mmpretrain', backbone=backbone, neck=neck and dict(type=neck),
                head=dict(type=head, num_classes=5, in_channels=channels))


MOBILENET = network(1280, type='MobileNetV2')
SHUFFLENET = network(1024, type='ShuffleNetV2')
CONVNEXT = network(24, neck=None, type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[6, 12, 18, 24]))
SWIN = network(96, type='SwinTransformer', img_size=64, pad_small_map=True,
               arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2]))
VIT = network(12, head='VisionTransformerClsHead', neck=None, type='VisionTransformer', img_size=64, patch_size=16,
              arch=dict(embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24))

# student, its tap; teacher, its tap; C_s, C_t, g; where the margins come from
PAIRS = {
    'from MobileNetV2': (classifier(), 'layer4@preact', MOBILENET, 'layer4.0@preact', 64, 192, 3, 'norm'),
    'from ShuffleNetV2': (classifier(), 'layer3@preact', SHUFFLENET, 'layers.0', 32, 116, 3, 'data'),
    'from a branch of ShuffleNetV2': (classifier(), 'layer2@preact', SHUFFLENET, 'layers.0@preact', 16, 58, 3, 'norm'),
    'from ConvNeXt': (classifier(), 'layer1@preact', CONVNEXT, 'stages.3', 8, 24, 3, 'data'),
    'from inside ConvNeXt': (classifier(), 'layer3@preact', CONVNEXT, 'stages.3@preact', 32, 96, 3, 'data'),
    'from Swin': (classifier(), 'layer3@preact', SWIN, 'stages.3', 32, 96, 3, 'data'),
    'from tokens': (classifier(), 'layer1@preact', VIT, 'layers.-1', 8, 12, 1, 'data'),
    'from inside ViT': (classifier(), 'layer1@preact', VIT, 'layers.-1@preact', 8, 24, 3, 'data'),
    'to MobileNetV2': (MOBILENET, 'layer4.0@preact', classifier(16, 50), 'layer4@preact', 192, 512, 2, 'norm'),
    'to ShuffleNetV2': (SHUFFLENET, 'layers.0', classifier(16, 50), 'layer4@preact', 116, 512, 4, 'norm'),
    'to ConvNeXt': (CONVNEXT, 'stages.3', classifier(16), 'layer4@preact', 24, 128, 5, 'norm'),
    'to Swin': (SWIN, 'stages.3', classifier(16, 50), 'layer4@preact', 96, 512, 5, 'norm'),
    'to tokens': (VIT, 'layers.-1', classifier(16), 'layer4@preact', 12, 128, 10, 'norm'),
    'between pyramids': (retinanet(), 'neck[0]', retinanet(16), 'neck[0]', 16, 16, 1, 'data'),
}
ONE_OF_A_KIND = ('from MobileNetV2', 'from ConvNeXt', 'to tokens', 'between pyramids')


@pytest.mark.parametrize('pair', [pair if pair in ONE_OF_A_KIND else pytest.param(pair, marks=pytest.mark.slow)
                                  for pair in PAIRS])
def test_taps_groups_and_margins_work_and_the_log_says_where_margins_come_from(pair, monkeypatch):
    student_cfg, student_tap, teacher_cfg, teacher_tap, channels_s, channels_t, group, source = PAIRS[pair]
    if 'neck' not in student_tap:
        student_tap, teacher_tap = f'backbone.{student_tap}', f'backbone.{teacher_tap}'
    messages = []
    monkeypatch.setattr(distiller_module, 'print_log', lambda message, *_: messages.append(message))
    scope = student_cfg['_scope_']
    student_cfg = dict(student_cfg, data_preprocessor=(retinanet if scope == 'mmdet' else classifier)()['data_preprocessor'])
    model = build(distilled(student_cfg, teacher_cfg, mgd=mgd((student_tap, teacher_tap))))
    stage = model.distillation.mgd.stages[0]
    assert stage.assignment.shape == (channels_s, group)
    assert stage.norm.num_features == channels_s
    assert stage.margins.shape == (channels_t,)
    assert stage.margin_source == source
    told = [message for message in messages if 'mean negative responses' in message and repr(teacher_tap) in message]
    assert len(told) == (source == 'data')

    model.eval()
    statistics, seen = model.distillation.mgd.start_update(), []
    for start in (0, 2):
        data = model.data_preprocessor(batch(scope, start=start), False)
        given = Batch(**data, iteration=0)
        features = model.distillation.features(model, given, ['mgd'])
        model.distillation.mgd.accumulate(statistics, *features, given)
        seen.append(features[1][teacher_tap])
    model.distillation.mgd.finish_update(statistics)
    assert len(set(stage.assignment.flatten().tolist())) == channels_s * group
    if source == 'data':
        responses = torch.cat(seen).double().transpose(0, 1).flatten(1)
        expected = torch.stack([row[row < 0].mean() if (row < 0).any() else row.new_zeros(()) for row in responses])
        torch.testing.assert_close(stage.margins.double(), expected, atol=1e-6, rtol=1e-5)
    else:
        norm = model.distillation.teacher.taps.info[teacher_tap].norm
        torch.testing.assert_close(stage.margins, margins_from_norm(norm.weight, norm.bias))

    model.train()
    losses = model(**model.data_preprocessor(batch(scope), True), mode='loss')
    ours = [value for name, value in losses.items() if name.startswith('mgd.')]
    assert len(ours) == 1
    assert torch.isfinite(ours[0])
    assert ours[0] > 0
    ours[0].backward()
    first = next(parameter for parameter in model.parameters() if parameter.dim() > 1)
    assert first.grad.abs().sum() > 0
