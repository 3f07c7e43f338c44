"""The promises of the overlay, each a test named after it, on real mm models."""
import copy
import gc
import pickle
import weakref

import pytest
import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from zoo import (
    STUDENTS,
    batch,
    build,
    classifier,
    distilled,
    loader,
    mgd,
    pspnet,
    retinanet,
    run,
    run_cfg,
    sample,
    update_hook,
)

from mmkd_plugin.model import DistilledMixin, overlay, teacher
from mmkd_plugin.utils.checkpoint_files import open_checkpoint

SCOPES = list(STUDENTS)


@pytest.mark.parametrize('scope', SCOPES)
def test_zero_weight_distillation_is_bit_equal_to_the_plain_student(scope, tmp_path):
    # Adapters and random reducers are there to draw random numbers, if anything does.
    student = dict(STUDENTS[scope](), init_cfg=dict(type='Kaiming', layer='Conv2d'))  # would reach adapters, too
    zero = dict(mgd=mgd(loss_weight=0., reducer='random_drop'),
                l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss_weight=0.))
    plain, plain_losses = run(run_cfg(student, tmp_path / 'plain', length=10))
    model, losses = run(run_cfg(distilled(student, **zero), tmp_path / 'kd', hooks=[update_hook(scope)], length=10))
    assert len(losses) == 5
    assert losses == plain_losses
    expected = plain.model.state_dict()
    assert model.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.model.state_dict().items())


@pytest.mark.parametrize('scope', SCOPES)
def test_with_a_weight_the_student_learns_something_else(scope, tmp_path):
    # The counterpart of the test above: without it, a distiller that does nothing would pass.
    student = STUDENTS[scope]()
    plain, _ = run(run_cfg(student, tmp_path / 'plain', length=4))
    model, losses = run(run_cfg(distilled(student), tmp_path / 'kd', hooks=[update_hook(scope)], length=4))
    assert losses[0]['mgd.loss_layer4'] > 0
    name = next(name for name in plain.model.state_dict() if name.startswith('backbone.layer4'))
    assert not torch.equal(model.model.state_dict()[name], plain.model.state_dict()[name])


@pytest.mark.parametrize('scope', SCOPES)
def test_the_model_is_an_instance_of_the_students_class_with_its_parameter_names(scope):
    plain, model = build(STUDENTS[scope]()), build(distilled(STUDENTS[scope]()))
    assert isinstance(model, type(plain))
    assert isinstance(model, DistilledMixin)
    assert type(model).__name__ == type(plain).__name__
    assert list(model.state_dict()) == list(plain.state_dict())
    ours = [name for name, _ in model.named_parameters() if not name.startswith('distillation.')]
    assert ours == [name for name, _ in plain.named_parameters()]
    assert model.backbone.layer4 is dict(model.named_modules())['backbone.layer4']


@pytest.mark.parametrize('scope', SCOPES)
def test_a_checkpoint_opens_with_the_plain_student_and_is_hardly_larger(scope, tmp_path):
    # At the width of a real network; the 5 % are of a real checkpoint.
    student = STUDENTS[scope](base_channels=32)
    run(run_cfg(student, tmp_path / 'plain', length=2))
    model = distilled(student, STUDENTS[scope](base_channels=64))
    run(run_cfg(model, tmp_path / 'kd', hooks=[update_hook(scope)], length=2))
    path = tmp_path / 'kd' / 'epoch_1.pth'
    plain = build(student)
    checkpoint = open_checkpoint(path)
    result = plain.load_state_dict(checkpoint['state_dict'], strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    load_checkpoint(plain, str(path), strict=True)
    assert set(checkpoint['mmkd']) == {'version', 'distillers', 'descriptions', 'hooks', 'teacher', 'position', 'validated',
                                       'ranks', 'settings', 'digest'}
    assert path.stat().st_size <= 1.05 * (tmp_path / 'plain' / 'epoch_1.pth').stat().st_size


def test_with_ema_the_teacher_exists_once_and_nowhere_in_the_file(tmp_path):
    cfg = run_cfg(distilled(pspnet()), tmp_path, length=2, hooks=[update_hook('mmseg'), dict(type='EMAHook')])
    runner, _ = run(cfg)
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    assert ema is not runner.model
    assert ema.distillation.teacher is runner.model.distillation.teacher
    checkpoint = open_checkpoint(tmp_path / 'epoch_1.pth')
    student_keys = set(build(pspnet()).state_dict())
    assert set(checkpoint['state_dict']) == student_keys
    assert set(checkpoint['ema_state_dict']) == {'steps', *(f'module.{name}' for name in student_keys)}
    resumed, _ = run(run_cfg(distilled(pspnet()), tmp_path, epochs=2, length=2, resume=True,
                             hooks=[update_hook('mmseg'), dict(type='EMAHook', strict_load=True)]))
    assert resumed.epoch == 2


def test_a_plain_student_checkpoint_works_as_load_from(tmp_path, caplog):
    plain = build(pspnet())
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    model = build(distilled(pspnet()))
    load_checkpoint(model, str(tmp_path / 'plain.pth'), strict=True)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())


def test_testing_neither_builds_nor_loads_the_teacher(tmp_path, monkeypatch):
    plain = build(pspnet())
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'student.pth')
    monkeypatch.setattr(overlay, 'build_teachers', lambda cfgs: pytest.fail('the teacher was built'))
    model = distilled(pspnet(), teacher='no/such/config.py', teacher_options=dict(checkpoint='no/such/file.pth'))
    cfg = run_cfg(model, tmp_path)
    cfg.update(test_dataloader=loader('mmseg', 2), test_cfg=dict(type='TestLoop'), load_from=str(tmp_path / 'student.pth'),
               test_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'out.pkl')))
    runner = Runner.from_cfg(cfg)
    runner.test()
    assert runner.model.distillation is None
    data = runner.model.data_preprocessor(batch('mmseg'), False)
    plain.eval()
    torch.testing.assert_close(runner.model(**data), plain(**data))


@pytest.mark.parametrize('mode', [True, False])
def test_the_teacher_is_wholly_in_eval_mode_after_model_train(mode):
    swin = dict(type='ImageClassifier', _scope_='mmpretrain', head=dict(type='LinearClsHead', num_classes=5, in_channels=96),
                neck=dict(type='GlobalAveragePooling'),
                backbone=dict(type='SwinTransformer', img_size=64, pad_small_map=True, drop_path_rate=.5, arch=dict(
                    embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 2])))
    model = build(distilled(classifier(), swin, mgd=mgd(('backbone.layer4', 'backbone.stages.3'))))
    model.train(mode)
    held = model.distillation.teacher
    assert not any(module.training for module in held.model.modules())
    assert not any(parameter.requires_grad for parameter in held.model.parameters())
    image = torch.randn(2, 3, 64, 64)
    once, again = held.features(image), held.features(image)
    assert torch.equal(once['backbone.stages.3'], again['backbone.stages.3'])


def test_teacher_features_do_not_depend_on_the_students_state():
    model = build(distilled(pspnet()))
    image = torch.randn(2, 3, 64, 64)
    before = model.distillation.teacher.features(image)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.train()
    assert all(torch.equal(value, before[address])
               for address, value in model.distillation.teacher.features(image).items())


def test_the_teacher_is_not_a_part_of_the_student():
    model = build(distilled(pspnet()))
    inside = set(map(id, model.modules()))
    assert not any(id(module) in inside for module in model.distillation.teacher.model.modules())
    assert {name.split('.')[1] for name, _ in model.named_parameters() if name.startswith('distillation')} == {'mgd'}


@pytest.mark.parametrize('copier', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_distilled_student_can_be_copied_and_pickled(copier):
    model = build(distilled(pspnet()), attach=copier is copy.deepcopy)
    copied = copier(model)
    assert type(copied) is type(model)
    assert all(torch.equal(value, copied.state_dict()[name]) for name, value in model.state_dict().items())
    if model.distillation is not None:
        for tap in copied.distillation.student_taps.taps.values():
            assert any(tap.module is module for module in copied.modules())


def test_bf16_autocast_works_with_losses_in_float32():
    model = build(distilled(pspnet(), mgd=mgd(), kd=dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg']),
                            l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])))
    _match(model)
    data = model.data_preprocessor(batch('mmseg'), True)
    precisions = []
    handle = model.distillation.l2.adapters[0].register_forward_hook(
        lambda module, args, output: precisions.append(output.dtype))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    handle.remove()
    assert precisions == [torch.float32]
    ours = {name: value for name, value in losses.items() if '.loss' in name and name.split('.')[0] in ('mgd', 'kd', 'l2')}
    assert len(ours) == 4
    assert all(value.dtype == torch.float32 for value in ours.values())
    full = model(**data, mode='loss')
    for name, value in ours.items():
        assert value.item() == pytest.approx(full[name].item(), rel=.1), name
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_gradient_accumulation_adds_up_to_the_large_batch():
    model = build(distilled(pspnet(norm_eval=True), mgd=mgd(norm=None)))
    _match(model)
    model.eval()  # batch statistics would differ between the halves
    halves = [model.data_preprocessor(batch('mmseg', 2, start), True) for start in (0, 2)]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.)
    wrapper = OptimWrapper(optimiser, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    for data in halves:
        with wrapper.optim_context(model):
            losses = model(**data, mode='loss')
        loss = wrapper.scale_loss(sum(value for name, value in losses.items() if name.startswith('mgd')))
        wrapper.backward(loss)
    accumulated = model.backbone.layer4[1].conv2.weight.grad.clone()
    model.zero_grad()
    whole = model.data_preprocessor(batch('mmseg', 4), True)
    losses = model(**whole, mode='loss')
    sum(value for name, value in losses.items() if name.startswith('mgd')).backward()
    torch.testing.assert_close(accumulated, model.backbone.layer4[1].conv2.weight.grad, rtol=1e-4, atol=1e-7)


def test_nothing_is_held_after_the_step():
    model = build(distilled(pspnet()))
    _match(model)
    seen = []
    handle = model.backbone.layer4.register_forward_hook(lambda module, args, output: seen.append(weakref.ref(output)))
    gc.disable()
    losses = model(**model.data_preprocessor(batch('mmseg'), True), mode='loss')
    model.parse_losses(losses)[0].backward()
    gc.enable()
    handle.remove()
    del losses
    assert seen[0]() is None  # at once: nothing waits for the garbage collector
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(module._forward_hooks for module in model.distillation.teacher.model.modules())


def test_no_parameter_is_left_without_gradient():
    # What DDP without find_unused_parameters needs.
    model = build(distilled(retinanet(), mgd=mgd(), l2=dict(type='mmkd.FeatureDistiller', pairs=['neck[0]'])))
    _match(model)
    losses = model(**model.data_preprocessor(batch('mmdet'), True), mode='loss')
    model.parse_losses(losses)[0].backward()
    assert [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None] == []


def _match(model):
    """A matching from random features, without a runner."""
    for distiller in model.distillation.distillers.values():
        for stage in getattr(distiller, 'stages', ()):
            stage.assignment.copy_(torch.randperm(stage.assignment.numel()).view_as(stage.assignment))
            stage.matched = True


def test_a_teacher_of_another_codebase_is_re_normalised(tmp_path):
    teacher_cfg = classifier(base_channels=16)
    teacher_cfg['data_preprocessor'].update(mean=[10., 20., 30.], std=[1., 2., 3.], to_rgb=False)
    model = build(distilled(pspnet(), teacher_cfg, mgd=mgd(('backbone.layer4', 'backbone.layer4'))))
    data = model.data_preprocessor(batch('mmseg'), True)
    held = model.distillation.teacher
    pixels = torch.stack(batch('mmseg')['inputs']).float()
    expected = (pixels - torch.tensor([10., 20., 30.]).view(1, 3, 1, 1)) / torch.tensor([1., 2., 3.]).view(1, 3, 1, 1)
    torch.testing.assert_close(held._renormalise(data['inputs']), expected, rtol=1e-4, atol=1e-4)


def test_a_teacher_without_a_preprocessor_sees_the_students_input(tmp_path):
    teacher_cfg = classifier(base_channels=16)
    del teacher_cfg['data_preprocessor']  # as in an mmpretrain `model` dict, whose preprocessor is beside it
    model = build(distilled(classifier(), teacher_cfg))
    assert model.distillation.teacher._renormalise is None


def test_initialising_before_and_after_attaching_gives_the_plain_students_weights():
    student = dict(classifier(), init_cfg=dict(type='Kaiming', layer='Conv2d'))
    states = []
    for cfg, attach_first in ((student, False), (distilled(student), False), (distilled(student), True)):
        torch.manual_seed(0)
        model = build(cfg, attach=attach_first)
        model.init_weights()
        if isinstance(model, DistilledMixin):
            model.attach_distillation()
        states.append(model.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


def test_keys_that_inference_apis_write_reach_the_student():
    from mmseg.apis import init_model
    cfg = Config(dict(model=distilled(pspnet()), default_scope='mmseg', test_pipeline=[]))
    model = init_model(cfg, device='cpu')
    assert isinstance(model, DistilledMixin)
    assert model.distillation is None


def test_a_distilled_model_can_be_the_teacher(tmp_path):
    cfg = Config(dict(model=distilled(pspnet(base_channels=16)), default_scope='mmseg'))
    cfg.dump(tmp_path / 'kd.py')
    source = build(pspnet(base_channels=16))
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'kd.pth')
    held = teacher.build_teacher(dict(config=str(tmp_path / 'kd.py'), checkpoint=str(tmp_path / 'kd.pth')))
    assert teacher.hash_weights(held.model) == teacher.hash_weights(revert_sync_batchnorm(source))


def test_a_checkpoint_that_the_teachers_own_hooks_adapt_is_complete(tmp_path):
    # A ViT resizes its position embedding to the image size while it loads.
    def vit(size):
        return dict(type='ImageClassifier', _scope_='mmpretrain', neck=None,
                    data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3),
                    backbone=dict(type='VisionTransformer', img_size=size, patch_size=16, arch=dict(
                        embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=24)),
                    head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=12))

    torch.save(dict(state_dict=build(vit(64)).state_dict()), tmp_path / 'vit.pth')
    held = teacher.build_teacher(dict(config=vit(96), checkpoint=str(tmp_path / 'vit.pth')))
    assert held.model.backbone.pos_embed.shape[1] == 37


def test_samples_are_a_function_of_their_index():
    # The data behind the bit-equality tests must not be a source of luck.
    assert torch.equal(sample('mmseg', 3)['inputs'], sample('mmseg', 3)['inputs'])
    assert not torch.equal(sample('mmseg', 3)['inputs'], sample('mmseg', 4)['inputs'])
