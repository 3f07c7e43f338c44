"""Stage 2: equation 3 with fixed weights, its ablations, and the keys of both modes."""
import pytest
import torch
import torch.nn.functional as F
from zoo import batch, build, classifier, dfa, distilled, pspnet, run, run_cfg

from mmkd_plugin.dfa import FeatureAggregationDistiller
from mmkd_plugin.dfa.bridge import directional_distance
from mmkd_plugin.distiller import Batch
from mmkd_plugin.utils.errors import DistillationError

STAGES = ('backbone.layer3', 'backbone.layer4')


def stage_two(student=None, teacher=None, stages=STAGES, **options):
    distiller = dfa('distill', stages, **{'aggregation': 'average', **options})
    return build(distilled(student or classifier(), teacher or classifier(16, depth=34), dfa=distiller))


def features(model, data, names=('dfa',)):
    """The student's features, and every block of the teacher's stages by address."""
    taps = model.distillation.teacher.taps
    with torch.no_grad(), taps.record() as recording:
        model.distillation.teacher.model(data['inputs'], mode='tensor')
    with model.distillation.recorded(names, iteration=0) as student:
        model(**data, mode='tensor')
    return student.features(data['inputs']), recording.features(data['inputs'])


def data_of(model, scope='mmpretrain'):
    return model.data_preprocessor(batch(scope), True)


def test_the_losses_are_those_of_the_equations():
    model = stage_two(aggregation='random', loss_weight=.5).eval()
    data = data_of(model)
    losses = model(**data, mode='loss')
    student, teacher = features(model, data)
    for group in model.distillation.dfa.groups:
        stacked = torch.stack([teacher[address] for address in group.teacher])
        target = torch.tensordot(torch.tensor(group.weights()), stacked, 1)
        expected = F.mse_loss(group.to_teacher(student[group.student]), target)
        torch.testing.assert_close(losses[f'dfa.loss_{group.name}'], expected * .5)


@pytest.mark.parametrize('distance', ['sum', 'normalized'])
def test_other_distances(distance):
    model = stage_two(distance=distance).eval()
    data = data_of(model)
    losses = model(**data, mode='loss')
    student, teacher = features(model, data)
    for group, weight in zip(model.distillation.dfa.groups, (.5, 1)):
        target = torch.stack([teacher[address] for address in group.teacher]).mean(0)
        adapted = group.to_teacher(student[group.student])
        expected = directional_distance(adapted, target) if distance == 'normalized' else (
            (adapted - target).square().sum() / 2 * weight)
        torch.testing.assert_close(losses[f'dfa.loss_{group.name}'], expected)


@pytest.mark.parametrize('distance', ['cosine', 'vid', dict(type='mmkd.L2Loss', normalise=True)],
                         ids=['cosine', 'vid', 'l2'])
def test_any_loss_between_features_is_a_distance(distance):
    model = stage_two(distance=distance, aggregation='average').train()
    data = data_of(model)
    found = model(**data, mode='loss')
    sum(value for name, value in found.items() if name.startswith('dfa.')).backward()
    distiller = model.distillation.dfa
    assert all(parameter.grad is not None for parameter in distiller.parameters())
    assert model.backbone.layer3[0].conv1.weight.grad.abs().sum() > 0
    with_weights = [name for name in distiller.state_dict() if name.startswith('losses.')]
    assert bool(with_weights) == (distance == 'vid')
    model.eval()
    student, teacher = features(model, data)
    for group, loss in zip(distiller.groups, distiller.losses):
        target = torch.stack([teacher[address] for address in group.teacher]).mean(0)
        expected = loss(group.to_teacher(student[group.student]), target)
        torch.testing.assert_close(model(**data, mode='loss')[f'dfa.loss_{group.name}'], expected)


def test_layers_may_be_normalised_and_the_aggregation_clamped_from_below():
    model = stage_two(normalise_layers=True, teacher_transform='margin_relu', distance='mean').eval()
    data = data_of(model)
    losses = model(**data, mode='loss')
    student, teacher = features(model, data)
    for group in model.distillation.dfa.groups:
        layers = [teacher[address] / teacher[address].square().mean().sqrt() for address in group.teacher]
        target = torch.stack(layers).mean(0)
        negative = target.clamp(max=0).sum((0, 2, 3)) / (target < 0).sum((0, 2, 3)).clamp(min=1)
        target = target.maximum(negative.view(1, -1, 1, 1))
        torch.testing.assert_close(losses[f'dfa.loss_{group.name}'],
                                   F.mse_loss(group.to_teacher(student[group.student]), target))


def test_weights_of_layers_are_not_those_of_normalised_layers(tmp_path):
    from mmkd_plugin.dfa.artefact import write_aggregation
    groups = [dict(name='layer4', student='backbone.layer4.1@end', weights=[.5, .3, .2],
                   teacher=[f'backbone.layer4.{block}@end' for block in range(3)])]
    path = tmp_path / 'aggregation.json'
    for normalised, other in ((False, True), (True, False)):
        how = dict(normalise_layers=True) if normalised else {}
        write_aggregation(path, groups, dict(model='x', sha256='x'), how, {}, {})
        options = dict(stages=['backbone.layer4'], aggregation=str(path), transfer=True)
        assert stage_two(normalise_layers=normalised, **options)
        with pytest.raises(DistillationError, match=f'searched with normalise_layers={normalised}, the config has {other}'):
            stage_two(normalise_layers=other, **options)


def test_P5_last_is_plain_feature_distillation_bit_for_bit():
    model = stage_two(aggregation='last').eval()
    data = data_of(model)
    losses = model(**data, mode='loss')
    student, teacher = features(model, data)
    for group in model.distillation.dfa.groups:
        adapted = group.to_teacher(student[group.student])
        assert torch.equal(losses[f'dfa.loss_{group.name}'], F.mse_loss(adapted, teacher[group.teacher[-1]]))
        assert group.sums().addresses == [group.teacher[-1]], 'the others are not looked at'


def test_P14_the_sum_on_the_fly_is_the_stacked_one():
    model = stage_two(aggregation='random')
    data = data_of(model)
    _, teacher = features(model, data)
    found = model.distillation.teacher_features(Batch(data['inputs'], None, 0), ['dfa'])
    assert list(found) == [f"dfa's aggregation of {name}" for name in ('layer3', 'layer4')], 'no layer is kept'
    for group in model.distillation.dfa.groups:
        stacked = torch.tensordot(torch.tensor(group.weights()), torch.stack([teacher[tap] for tap in group.teacher]), 1)
        assert (found[group.sum_name] - stacked).norm() < 1e-6 * stacked.norm()


@pytest.mark.slow
def test_two_distillers_of_one_stage_have_their_own_sums():
    model = build(distilled(classifier(), classifier(16, depth=34), **{
        name: dfa('distill', STAGES, aggregation=name) for name in ('last', 'average')})).train()
    losses = model(**data_of(model), mode='loss')
    for name in ('last', 'average'):
        cfg = dfa('distill', STAGES, aggregation=name)
        alone = build(distilled(classifier(), classifier(16, depth=34), dfa=cfg)).train()
        alone.load_state_dict(model.state_dict())
        alone.distillation.teacher.model.load_state_dict(model.distillation.teacher.model.state_dict())
        alone.distillation.dfa.load_state_dict(model.distillation.distillers[name].state_dict())
        assert torch.equal(alone(**data_of(model), mode='loss')['dfa.loss_layer4'], losses[f'{name}.loss_layer4'])


def test_P13_weights_are_fixed_and_the_head_is_not_reached():
    model = stage_two().train()
    losses = model(**data_of(model), mode='loss')
    sum(value for name, value in losses.items() if name.startswith('dfa')).backward()
    assert model.head.fc.weight.grad is None
    assert model.backbone.layer4[-1].conv2.weight.grad.abs().sum() > 0
    assert {name for name, _ in model.distillation.dfa.named_parameters()} == {
        f'groups.{number}.to_teacher.{layer}' for number in (0, 1) for layer in ('0.weight', '1.weight', '1.bias')}
    assert all(parameter.grad is None for parameter in model.distillation.teacher.model.parameters())


@pytest.mark.slow
def test_P13_at_weight_zero_it_is_plain_training(tmp_path):
    plain, losses = run(run_cfg(classifier(), tmp_path / 'plain', length=4))
    cfg = distilled(classifier(), dfa=dfa('distill', STAGES, aggregation='average', loss_weight=0))
    model, ours = run(run_cfg(cfg, tmp_path / 'dfa', length=4))
    assert [loss['loss'] for loss in ours] == [loss['loss'] for loss in losses]
    assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in plain.model.state_dict().items())


@pytest.mark.slow
def test_P9_the_teacher_does_not_change(tmp_path):
    cfg = run_cfg(distilled(pspnet(), dfa=dfa('distill', STAGES, aggregation='average')), tmp_path, length=4)
    before = {}

    def remember(runner):
        runner.model.attach_distillation()
        teacher = runner.model.distillation.teacher.model
        before.update({name: value.clone() for name, value in teacher.state_dict().items()})

    runner, _ = run(cfg, before=remember)
    teacher = runner.model.distillation.teacher.model
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_of_another_resolution_is_resized():
    groups = [dict(student='backbone.layer3', teacher='backbone.layer2')]
    model = stage_two(stages=groups, resize=True).eval()
    data = data_of(model)
    loss = model(**data, mode='loss')['dfa.loss_layer3']
    student, teacher = features(model, data)
    group = model.distillation.dfa.groups[0]
    mean = torch.stack([teacher[tap] for tap in group.teacher]).mean(0)
    target = F.interpolate(mean, (16, 16), mode='bilinear', align_corners=False)
    torch.testing.assert_close(loss, F.mse_loss(group.to_teacher(student[group.student]), target))


@pytest.mark.slow
def test_resuming_with_other_weights_is_refused(tmp_path):
    def cfg(aggregation, epochs, distance='mean', **options):
        distiller = dfa('distill', STAGES, aggregation=aggregation, distance=distance)
        return run_cfg(distilled(classifier(), dfa=distiller), tmp_path, epochs=epochs, length=2, **options)

    run(cfg('average', 1))
    with pytest.raises(DistillationError, match=r'Checkpoint: .*weights 0.5000 0.5000.* Config: .*weights 0.0000 1.0000'):
        run(cfg('last', 2, resume=True))
    with pytest.raises(DistillationError, match='Checkpoint: distill, distance mean.* Config: distill, distance normalized'):
        run(cfg('average', 2, distance='normalized', resume=True))


@pytest.mark.parametrize(('key', 'value'), [('loss_weight', 1.0), ('loss_scale', 'auto'), ('distance', 'mean'),
                                            ('transfer', False)])
def test_a_search_is_refused_the_keys_of_a_training_whatever_their_value(key, value):
    # A search is derived from its training's config, which leaves these out.
    for given in (value, None):
        with pytest.raises(DistillationError, match=f'model.distillers.dfa.{key}: '):
            build(distilled(classifier(), dfa=dfa('search', STAGES, **{key: given})))
    base = dfa('distill', STAGES, **{key: value})
    without = FeatureAggregationDistiller.Options.without_meaning(mode='search')
    kept = {name: given for name, given in base.items() if name not in without}
    build(distilled(classifier(), dfa=dict(kept, mode='search')))


def test_connectors_without_a_norm_have_a_bias():
    group = stage_two(connector_norm=None).distillation.dfa.groups[0]
    assert [name for name, _ in group.named_parameters()] == ['to_teacher.0.weight', 'to_teacher.0.bias']


@pytest.mark.parametrize(('options', 'message'), [
    (dict(mode='searching'), "mode: 'searching' is not known. Did you mean 'search'"),
    (dict(mode='search', aggregation='last'),
     "aggregation: 'last' has no meaning with mode='search'. Accepted: nothing, or mode='distill' beside it"),
    (dict(mode='search', loss_weight=2.0), "loss_weight: 2.0 has no meaning with mode='search'"),
    (dict(mode='distill', aggregation='last', gamma_st=1),
     "gamma_st: 1 has no meaning with mode='distill'. Accepted: nothing, or mode='search' beside it"),
    (dict(mode='distill'),
     'aggregation: is missing. Accepted: the aggregation.json that .*search.*, or last, average, random'),
    (dict(mode='distill', aggregation=3),
     'aggregation: 3. Accepted: the path of a file that a search wrote, or last, average, random'),
    (dict(mode='distill', aggregation='latest'), "aggregation: 'latest' was not found"),
    (dict(mode='distill', aggregation='last', distance='median'), "distance: 'median' is not known. Did you mean 'mean'"),
    (dict(mode='distill', aggregation='last', connector_norm='LN'), "connector_norm: 'LN' is not known"),
    (dict(mode='distill', aggregation='last', connector_norm='bn'), "connector_norm: 'bn' .* Did you mean 'BN'"),
    (dict(mode='search', skip='none'), "skip: 'none' is not known"),
    (dict(mode='search', st_form='square'), "st_form: 'square' is not known. Did you mean 'sq'"),
    (dict(mode='search', gamma_st='automatic'), "gamma_st: 'automatic'. Did you mean 'auto'.*: a number >= 0, or 'auto'"),
    (dict(mode='search', gamma_st=-1), 'gamma_st: -1. Accepted: a number >= 0'),
    (dict(mode='search', resize='no'), "resize: 'no'. Accepted: True or False"),
    (dict(mode='distill', aggregation='last', transfer='yes'), "transfer: 'yes'. Accepted: True or False"),
    (dict(mode='search', gamma_ts=-1), 'gamma_ts: -1. Accepted: a number >= 0'),
    (dict(mode='search', gamma_st='auto', gamma_ts=0),
     "gamma_ts: 0 does not go with gamma_st='auto'. Accepted: one of them above 0; for gamma_st='auto', .*, gamma_ts"),
    (dict(mode='search', gamma_st=0, gamma_ts=0), 'gamma_ts: 0 does not go with gamma_st=0'),
    (dict(mode='search', pairs=[('backbone.layer3@in', 'backbone.layer3')]),
     "pairs: 'backbone.layer3@in' is an input of the student. Accepted: in a search an output"),
    (dict(mode='search', pairs=[('backbone.layer3', ['backbone.layer3.0@end'] * 2)]),
     r"pairs\[0\].teacher: \['backbone.layer3.0@end', 'backbone.layer3.0@end'\]. Accepted: a list of different taps"),
    (dict(groups=['backbone.layer3']), r"groups: 'groups' is no key here.*Write pairs=\[...\], with the same items"),
    (dict(mode='distill', aggregation='lst'), "aggregation: 'lst' was not found .* Did you mean 'last'"),
    (dict(mode='search', seed=.5), 'seed: 0.5. Accepted: a whole number >= 0')])
def test_wrong_keys_and_values_are_refused(options, message):
    with pytest.raises(DistillationError, match=f'model.distillers.dfa.*{message}'):
        build(distilled(classifier(), dfa=dfa(**options)))
