"""Who updates what in a search: properties P7 to P9, P12 and P15, on models with skip connections."""
import pytest
import torch
from zoo import batch, build, classifier, deeplabv3plus, dfa, distilled, pspnet, retinanet

from mmkd_plugin.dfa.hook import start_search
from mmkd_plugin.dfa.search import PathLosses

STAGES = ('backbone.layer2', 'backbone.layer3', 'backbone.layer4')
ADAM = dict(type='Adam', lr=3e-3)


def searching(student=classifier, index=1, stages=STAGES, depth=34, **options):
    """A model in the search of one group, and the search."""
    cfg = student()
    model = build(distilled(cfg, student(16, depth=depth), dfa=dfa('search', stages, **options))).train()
    search = start_search(model.distillation.dfa, ADAM, 0)
    search.enter(index)
    model.data = model.data_preprocessor(batch(cfg['_scope_'], size=4), True)
    return model, search


def losses(model):
    """(task loss, loss of the student-teacher path), each weighted as in training."""
    found = model(**model.data, mode='loss')
    st = found.pop('dfa.loss_st')
    return model.parse_losses(found)[0], st


def reached(model, loss):
    model.zero_grad()
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def stage_of(name):
    """0 for the stem, i for ``backbone.layer<i>``, 9 for whatever comes after the backbone; connectors aside."""
    if not name.startswith('backbone'):
        return 9
    return int(name[len('backbone.layer')]) if name.startswith('backbone.layer') else 0


@pytest.mark.parametrize('student', [deeplabv3plus, *(pytest.param(student, marks=pytest.mark.slow)
                                                      for student in (classifier, pspnet, retinanet))])
@pytest.mark.parametrize('index', [0, 1, 2])
def test_P7_each_path_leaves_the_others_parameters_without_gradient(student, index):
    model, _ = searching(student, index)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad
             and not name.startswith('distillation')}
    connector = f'distillation.dfa.groups.{index}.to_%s'
    connectors = {kind: {name for name, _ in model.named_parameters() if name.startswith(connector % kind)}
                  for kind in ('teacher', 'student')}
    before = {name for name in names if stage_of(name) <= index + 2}  # STAGES begin at layer2
    ts, st = losses(model)
    assert reached(model, st) == before | connectors['teacher']
    ts, st = losses(model)
    assert reached(model, ts) == (names - before) | connectors['student']


@pytest.mark.parametrize('student', [deeplabv3plus, retinanet])
def test_P7_with_skips_of_the_teacher_the_earlier_connectors_are_left_alone(student):
    model, _ = searching(student, 2, skip='teacher')
    ts, st = losses(model)
    assert not {name for name in reached(model, ts) if stage_of(name) <= 4 or 'groups.0' in name or 'groups.1' in name}


def test_P7_on_a_chain_the_task_does_not_see_the_student_before_the_injection():
    model, _ = searching(classifier, 1)
    model.eval()
    with torch.no_grad():
        ts, st = losses(model)
        model.backbone.layer3[0].conv1.weight.mul_(2)
        changed_ts, changed_st = losses(model)
        assert torch.equal(ts, changed_ts)
        assert not torch.equal(st, changed_st)
        model.backbone.layer4[0].conv1.weight.mul_(2)
        again_ts, again_st = losses(model)
        assert not torch.equal(again_ts, ts)
        assert torch.equal(again_st, changed_st)


@pytest.mark.parametrize('skip', ['student_detached', 'teacher', 'zeros'])
def test_what_skip_connections_carry(skip):
    # FPN reads layer2 beside layer3: with the student's own map, its values count; otherwise they do not.
    model, _ = searching(retinanet, 1, skip=skip)
    model.eval()
    with torch.no_grad():
        before, _ = losses(model)
        model.backbone.layer2[-1].conv2.weight.mul_(3)
        after, _ = losses(model)
        assert torch.equal(before, after) == (skip != 'student_detached')
        model.distillation.dfa.groups[0].to_student[0].weight.mul_(3)
        once_more, _ = losses(model)
        assert torch.equal(after, once_more) == (skip != 'teacher')


def test_the_skip_of_the_teacher_is_its_aggregation_through_the_earlier_connector():
    model, search = searching(retinanet, 1, skip='teacher')
    model.eval()
    first = model.distillation.dfa.groups[0]
    seen = []
    handle = model.neck.lateral_convs[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    losses(model)
    handle.remove()
    teacher = model.distillation.teacher.features(model.data['inputs'], None, [], [first.sums()])
    expected = first.to_student(teacher[first.sum_name]).relu()
    # The hook sees what the neck is given; its convolution sees the stand-in.
    inputs = []

    def convolve(module, args, output):
        inputs.append(output)

    handle = model.neck.lateral_convs[0].conv.register_forward_hook(convolve)
    losses(model)
    handle.remove()
    torch.testing.assert_close(inputs[0], model.neck.lateral_convs[0].conv(expected))
    assert seen[0].shape == expected.shape


@pytest.mark.slow
def test_forms_of_the_distance():
    found = {}
    for form in ('sq', 'norm', 'mse'):
        torch.manual_seed(0)
        model, search = searching(classifier, 1, st_form=form)
        found[form] = float(losses(model.eval())[1])
    size = search.group.channels * 16 * 16  # of layer3, of images of 64
    assert found['mse'] * size == pytest.approx(found['sq'], rel=1e-4)
    assert found['norm'] == pytest.approx(found['sq'] ** .5, rel=.05), 'a mean of roots'


def test_the_whole_student_may_be_trained_beside():
    model, _ = searching(classifier, 1, whole_weight=.25)
    found = model.eval()(**model.data, mode='loss')
    plain = type(model).student_class.forward(model, **model.data, mode='loss')
    torch.testing.assert_close(found['whole.loss'], plain['loss'] * .25)
    student = {name for name, _ in model.named_parameters() if 'distillation' not in name}
    assert student <= reached(model, found['whole.loss'])


@pytest.mark.slow
def test_a_search_with_another_resolution():
    model, search = searching(classifier, 0, [('backbone.layer3', 'backbone.layer2')], resize=True)
    ts, st = losses(model)
    assert 'backbone.layer3.0.conv1.weight' in reached(model, st)
    with search.group.live() as beta:
        gradients = torch.autograd.grad(sum(losses(model)), beta)
    assert gradients[0].abs().max() > 0


def test_P8_the_betas_of_other_groups_do_not_matter():
    model, search = searching(classifier, 1)
    model.eval()
    with torch.no_grad():
        before = losses(model)
        for group in (search.groups[0], search.groups[2]):
            group.beta.add_(torch.randn_like(group.beta))
            group.forget_weights()
        assert all(torch.equal(one, other) for one, other in zip(before, losses(model)))
        search.group.beta.add_(torch.randn_like(search.group.beta))
        search.group.forget_weights()
        assert not torch.equal(before[0], losses(model)[0])


@pytest.mark.slow
@pytest.mark.parametrize(('gammas', 'still'), [(dict(gamma_ts=0), lambda stage: stage > 3),
                                               (dict(gamma_st=0), lambda stage: stage <= 3)])
def test_P12_without_one_path_its_part_of_the_student_does_not_move(gammas, still):
    model, _ = searching(classifier, 1, **gammas)
    optimiser = torch.optim.SGD(model.parameters(), lr=.1, momentum=.9, weight_decay=.1)
    start = {name: value.clone() for name, value in model.named_parameters()}
    for _ in range(2):
        optimiser.zero_grad()
        model.parse_losses(model(**model.data, mode='loss'))[0].backward()
        optimiser.step()
    for name, value in model.named_parameters():
        if not name.startswith('distillation'):
            assert torch.equal(value, start[name]) == still(stage_of(name)), name


def test_P15_the_last_groups_path_is_the_head_alone():
    model, search = searching(classifier, 2)
    model.eval()
    group = search.group
    with torch.no_grad():
        ts, _ = losses(model)
        teacher = model.distillation.teacher.features(model.data['inputs'], None, [], [group.sums()])
        entering = group.to_student(teacher[group.sum_name]).relu()
        expected = model.head.loss(model.neck((entering,)), model.data['data_samples'])['loss']
    torch.testing.assert_close(ts, expected)


@pytest.mark.slow
def test_the_injection_is_activated_where_the_next_stage_expects_that_and_not_where_it_does_not():
    model, _ = searching(classifier, 0)
    entering = []
    handle = model.backbone.layer3.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    losses(model)
    handle.remove()
    assert entering[0].min() == 0  # a ResNet's stage begins after a ReLU
    model, _ = searching(wide, 0, stages=('backbone.layer1', 'backbone.layer2'), depth=28)
    handle = model.backbone.layer1.norm.register_forward_pre_hook(lambda module, args: entering.append(args[0]))
    losses(model)
    handle.remove()
    assert entering[1].min() < 0  # pre-activation networks apply their own


def wide(base_channels=1, depth=16):
    model = classifier()
    model['backbone'] = dict(type='mmkd.WideResNet', depth=depth, widen_factor=base_channels // 8 or 1)
    model['head']['in_channels'] = 64 * (base_channels // 8 or 1)
    return model


@pytest.mark.slow
def test_the_gradient_of_beta_is_that_of_the_bridge_by_finite_differences():
    model, search = searching(classifier, 1)
    model.eval().double()
    model.distillation.teacher.model.double()
    model.data['inputs'] = model.data['inputs'].double()

    def bridge():
        ts, st = losses(model)
        return PathLosses(ts=ts, st=st)

    gradient = search.gradient(bridge)
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-6 * float(gradient.abs().max()))  # P3
    for number in range(len(search.group)):
        values = []
        for step in (1e-2, -1e-2):
            search.group.beta[number] += step
            search.group.forget_weights()
            with torch.no_grad():
                values.append(float(sum(losses(model))))
            search.group.beta[number] -= step
        assert (values[0] - values[1]) / 2e-2 == pytest.approx(float(gradient[number]), rel=2e-2, abs=1e-6)


@pytest.mark.slow
def test_in_half_precision_losses_are_wide_and_scaling_cancels():
    model, search = searching(deeplabv3plus, 1)
    model.eval()

    def bridge():
        with torch.autocast('cpu', torch.bfloat16):
            ts, st = losses(model)
        return PathLosses(ts=ts, st=st)

    assert bridge().st.dtype == torch.float32
    gradient = search.gradient(bridge)
    torch.testing.assert_close(search.gradient(bridge, scale=torch.tensor(1024.)), gradient, rtol=1e-2, atol=1e-4)
    assert search.gradient(bridge, scale=torch.tensor(float('inf'))) is None, 'what overflows is left out'
    before = search.group.beta.clone()
    search.step(None)
    assert torch.equal(search.group.beta, before)


def test_an_injected_vision_transformer_keeps_its_form():
    from mmengine.registry import init_default_scope
    init_default_scope('mmpretrain')
    student = classifier()
    student['backbone'] = dict(type='VisionTransformer', arch=dict(embed_dims=24, num_layers=4, num_heads=2,
                                                                    feedforward_channels=24), img_size=64, patch_size=16)
    student['neck'] = None
    student['head'] = dict(type='VisionTransformerClsHead', num_classes=5, in_channels=24)
    groups = [dict(student='backbone.layers.1@out', teacher=['backbone.layers.0', 'backbone.layers.1'])]
    model = build(distilled(student, student, dfa=dfa('search', groups))).train()
    start_search(model.distillation.dfa, ADAM, 0).enter(0)
    model.data = model.data_preprocessor(batch('mmpretrain'), True)
    ts, st = losses(model)
    names = reached(model, ts)
    assert 'backbone.layers.2.ffn.layers.1.weight' in names
    assert 'backbone.cls_token' not in names
    assert 'backbone.layers.1.ffn.layers.1.weight' not in names
