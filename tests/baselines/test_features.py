import torch
from zoo import batch, build, distilled, pspnet

from mmkd_plugin.distiller import Batch


def test_adapted_features_are_compared_by_their_mean_squared_distance():
    model = build(distilled(pspnet(), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4@preact'])))
    model.eval()
    data = model.data_preprocessor(batch('mmseg'), True)
    loss = model(**data, mode='loss')['l2.loss_layer4']
    student, teacher = model.distillation.features(model, Batch(data['inputs'], data['data_samples'], 0), ['l2'])
    adapter = model.distillation.l2.adapters[0]
    assert adapter.weight.shape == (128, 64, 1, 1)
    expected = (adapter(student['backbone.layer4@preact']) - teacher['backbone.layer4@preact']).square().mean()
    torch.testing.assert_close(loss, expected)
