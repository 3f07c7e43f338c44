"""Injection: the two halves of a forward are apart, on models with skip connections."""
from dataclasses import dataclass
from typing import Optional

import pytest
import torch
from torch import nn
from zoo import batch, build, distilled, pspnet, retinanet

from mmkd_plugin.dfa.barrier import Barrier
from mmkd_plugin.dfa.injection import Injection, trace
from mmkd_plugin.distiller import Distiller, WrapsForward
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.options import Either, Number, Text, option

WHOLE = Number(above=0, whole=True)


@MODELS.register_module(force=True)
class Injector(Distiller, WrapsForward):
    """Injects a trained map at a stage and pulls the student's own feature there towards zero."""

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        stage: str = option(Text())
        task_weight: float = option(Number(least=0), 1.0)
        whole_weight: float = option(Number(least=0), 0.0)
        shape: Optional[int] = option(Either(WHOLE, (None,)), None)

    wraps = True

    def __init__(self, **options):
        super().__init__(**options)
        self.student_taps = self.teacher_taps = [f'{self.options.stage}@end']

    def prepare(self, student, teacher):
        info = student[self.student_taps[0]]
        self.adapter = nn.Conv2d(teacher[self.teacher_taps[0]].channels, self.options.shape or info.channels, 1)

    def wrap(self, teacher, batch):
        return Injection('test', self.student_taps[0], lambda feature: self.adapter(teacher[self.teacher_taps[0]]),
                         unreached={}, task_weight=self.options.task_weight,
                         whole_weight=self.options.whole_weight)

    def forward(self, student, teacher, batch):
        return dict(loss_own=student[self.student_taps[0]].square().mean())


def gradients(model, scope, only):
    model.zero_grad()
    losses = model(**model.data_preprocessor(batch(scope), True), mode='loss')
    chosen = {name: value for name, value in losses.items() if name.startswith('injector') == (only == 'own')}
    model.parse_losses(chosen)[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(('student', 'stage'), [
    (pspnet, 'layer2'), (retinanet, 'layer3'), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (pspnet, 'layer4'), (retinanet, 'layer2'), (retinanet, 'layer4')))])
def test_each_path_leaves_the_other_without_gradient(student, stage):
    cfg = student()
    model = build(distilled(cfg, injector=dict(type='mmkd.Injector', stage=f'backbone.{stage}'))).train()
    everything = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    before = {name for name in everything if name.startswith('backbone') and
              (not name.startswith('backbone.layer') or int(name[len('backbone.layer')]) <= int(stage[-1]))}
    assert gradients(model, cfg['_scope_'], 'own') == before
    assert gradients(model, cfg['_scope_'], 'task') == everything - before


def test_at_task_weight_zero_nothing_after_the_injection_gets_a_gradient():
    model = build(distilled(pspnet(), injector=dict(type='mmkd.Injector', stage='backbone.layer3',
                                                    task_weight=0.0))).train()
    losses = model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert model.decode_head.conv_seg.weight.grad is None
    assert model.backbone.layer4[0].conv1.weight.grad is None
    assert model.backbone.layer3[0].conv1.weight.grad is not None
    assert float(losses['decode.loss_ce']) == 0


def test_the_whole_student_can_be_trained_beside():
    model = build(distilled(pspnet(), injector=dict(type='mmkd.Injector', stage='backbone.layer3',
                                                    whole_weight=.5))).eval()
    data = model.data_preprocessor(batch('mmseg'), True)
    losses = model(**data, mode='loss')
    plain = type(model).student_class.forward(model, **data, mode='loss')
    torch.testing.assert_close(losses['whole.decode.loss_ce'], plain['decode.loss_ce'] * .5)


def test_an_injected_feature_that_what_follows_cannot_take_is_refused():
    model = build(distilled(pspnet(), injector=dict(type='mmkd.Injector', stage='backbone.layer3', shape=5)))
    message = r"'backbone.layer3@end' has shape \(2, 5, 8, 8\), what comes next in the student takes \(2, 32, 8, 8\)"
    with pytest.raises(DistillationError, match=message):
        model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')


def test_weights_shared_between_the_two_halves_are_refused():
    model = build(distilled(retinanet(), injector=dict(type='mmkd.Injector', stage='backbone.layer3'))).train()
    model.backbone.layer2[0].bn1.bias = model.neck.lateral_convs[0].conv.bias
    with pytest.raises(DistillationError, match=r"backbone.layer2.0.bn1.bias of the student come both before and after"):
        gradients(model, 'mmdet', 'task')


def test_a_searching_distiller_is_alone():
    with pytest.raises(DistillationError, match='Accepted: this distiller alone'):
        build(distilled(pspnet(), injector=dict(type='mmkd.Injector', stage='backbone.layer3'),
                        l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])))


def test_the_barrier_lets_leaves_and_later_tensors_through():
    weight = torch.ones(3, requires_grad=True)
    early = weight * 2
    with Barrier(Tensor_zeros):
        later = weight * 3
        total = (early + later).sum() + torch.cat([early, later]).sum() + torch.stack((early,)).sum()
    assert float(total.detach()) == 9 + 9
    total.backward()
    assert weight.grad.tolist() == [6, 6, 6]
    assert early.sum().item() == 6, 'outside, it is what it was'


def test_the_barrier_puts_a_stand_in_where_it_knows_the_tensor():
    weight = torch.ones(2, requires_grad=True)
    known, other = weight * 2, weight * 5
    with Barrier(torch.Tensor.detach, [(known, lambda: torch.full((2,), 7.0))]):
        total = torch.cat([known, other, weight])
    assert total.tolist() == [7, 7, 5, 5, 1, 1]
    total.sum().backward()
    assert weight.grad.tolist() == [1, 1]


def test_a_trace_finds_the_parameters_of_every_loss():
    layer, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    out = layer(torch.ones(1, 2))
    leaves = trace(dict(loss_a=[out.sum()], acc=unused(torch.ones(1, 2)).sum())).leaves
    assert leaves == {layer.weight, layer.bias}


def Tensor_zeros(tensor):
    return torch.zeros_like(tensor)
