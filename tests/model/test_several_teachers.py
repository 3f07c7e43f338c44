"""Several teachers at once: each tap goes to the one it names, each runs once, and none is in the checkpoint."""
import json
from copy import deepcopy

import pytest
import torch
from dfa_runs import search_run
from resume_runs import differences, epochs_cfg, interrupted
from zoo import batch, build, classifier, dfa, distilled, pspnet, retinanet, run, run_cfg

from mmkd_plugin.utils.errors import DistillationError

L2 = 'mmkd.FeatureDistiller'
PAIRS = [('backbone.layer3', 'big:backbone.layer3'), ('backbone.layer4', 'big:backbone.layer4'),
         ('backbone.layer4', 'other:backbone.layer4')]
BOTH = dict(type=L2, pairs=PAIRS)


def taught(student, big=None, other=None, names=('big', 'other'), **distillers):
    """Config of a student with two teachers, a wide one of its own kind and a classifier."""
    cfg = distilled(student, **distillers or dict(both=BOTH))
    own = cfg.pop('teacher')['config']
    configs = dict(big=big or own, other=other or classifier(12))
    cfg['teachers'] = {name: dict(config=configs[name], allow_random_weights=True) for name in names}
    return cfg


def calls_of(model):
    """Counts, from now on, how often each teacher and each of its stages runs."""
    calls = []
    for name, teacher in model.distillation.teachers.by_name.items():
        for stage in ('layer1', 'layer2', 'layer3', 'layer4'):
            getattr(teacher.model.backbone, stage).register_forward_hook(
                lambda *_, name=f'{name}.{stage}': calls.append(name))
    return calls


def loss_of(model, data):
    torch.manual_seed(0)
    return model(**deepcopy(data), mode='loss')


@pytest.mark.parametrize('student', [pspnet(), retinanet()], ids=['mmseg', 'mmdet'])
def test_two_teachers_give_what_each_gives_alone(student):
    model = build(taught(student)).train()
    data = model.data_preprocessor(batch(student['_scope_']), True)
    losses = loss_of(model, data)
    taps = dict(big=PAIRS[:2], other=PAIRS[2:])
    for name, teacher in model.distillation.teachers.by_name.items():
        alone = build(distilled(student, taught(student)['teachers'][name]['config'], both=dict(
            type=L2, pairs=[(ours, theirs.partition(':')[2]) for ours, theirs in taps[name]]))).train()
        alone.distillation.teacher.model.load_state_dict(teacher.model.state_dict())
        expected = alone.distillation.teacher.features(data['inputs'], data['data_samples'])
        found = model.distillation.teachers.features(data['inputs'], data['data_samples'])
        for address, feature in expected.items():
            assert torch.equal(found[f'{name}:{address}'], feature)
    assert {name for name in losses if name.startswith('both.')} == {'both.loss_layer3', 'both.loss_1', 'both.loss_2'}
    sum(value for name, value in losses.items() if name.startswith('both.')).backward()
    assert all(parameter.grad.any() for parameter in model.distillation.parameters())


def test_each_has_its_own_normalisation():
    other = classifier(12)
    other['data_preprocessor'].update(mean=[10., 20., 30.], std=[1., 2., 3.], to_rgb=False)
    big = pspnet(base_channels=16)
    model = build(taught(pspnet(), big, other))
    data = model.data_preprocessor(batch('mmseg'), True)
    seen = {}
    for name, teacher in model.distillation.teachers.by_name.items():
        teacher.model.backbone.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    model.distillation.teachers.features(data['inputs'])
    assert torch.equal(seen['big'], data['inputs'])
    pixels = torch.stack(batch('mmseg')['inputs']).float()
    expected = (pixels - torch.tensor([10., 20., 30.]).view(1, 3, 1, 1)) / torch.tensor([1., 2., 3.]).view(1, 3, 1, 1)
    torch.testing.assert_close(seen['other'], expected, rtol=1e-4, atol=1e-4)


def test_each_runs_once_a_step_to_its_deepest_tap_and_only_for_a_distiller_that_acts():
    cfg = taught(classifier(), classifier(16), one=dict(type=L2, pairs=['big:backbone.layer2']),
                 two=dict(type=L2, pairs=['big:backbone.layer3', 'other:backbone.layer1']),
                 three=dict(type=L2, pairs=['other:backbone.layer4'], loss_weight=0))
    model = build(cfg).train()
    data = model.data_preprocessor(batch('mmpretrain'), True)
    calls = calls_of(model)
    loss_of(model, data)
    assert calls == ['big.layer1', 'big.layer2', 'big.layer3', 'other.layer1']


def test_a_teacher_whose_distillers_have_ended_does_not_run(tmp_path):
    cfg = run_cfg(taught(classifier(), classifier(16), one=dict(type=L2, pairs=['big:backbone.layer1'], end=2),
                         two=dict(type=L2, pairs=['other:backbone.layer1'], begin=1)), tmp_path)
    calls = []

    def watch(runner):
        runner.model.attach_distillation()
        calls.append(calls_of(runner.model))

    run(cfg, watch)
    assert calls[0] == ['big.layer1', 'big.layer1', 'other.layer1', 'other.layer1', 'other.layer1']


@pytest.mark.slow
def test_a_resumed_run_is_the_whole_one_and_its_checkpoint_holds_no_teacher(tmp_path):
    model = taught(classifier(4), classifier(8), classifier(6), both=dict(
        type=L2, pairs=['big:backbone.layer2', 'other:backbone.layer3'], loss_scale='auto', calibration_iters=3))
    whole, resumed, losses, later = interrupted(lambda folder, **more: epochs_cfg(folder, model=model, **more), tmp_path,
                                                epoch=1)
    assert losses == later
    assert differences(whole, resumed) == []
    checkpoint = torch.load(tmp_path / 'half/epoch_1.pth', weights_only=False)
    assert set(checkpoint['state_dict']) == set(build(classifier(4)).state_dict())
    identities = checkpoint['mmkd']['teacher']
    assert set(identities) == {f'{name}.{key}' for name in ('big', 'other') for key in ('config', 'sha256', 'checkpoint')}
    assert identities['big.sha256'] != identities['other.sha256']


@pytest.mark.parametrize(('change', 'message'), [
    (lambda model: model['teachers']['other'].update(config=classifier(6)), "a teacher 'other' with other weights"),
    (lambda model: model['teachers'].update(third=model['teachers'].pop('other')),
     r'from other teachers \(big, other; now big, third\)'),
], ids=['weights', 'names'])
def test_a_run_is_not_gone_on_with_other_teachers(tmp_path, change, message):
    model = taught(classifier(4), classifier(4), classifier(4), both=dict(type=L2, pairs=['big:backbone.layer1']),
                   more=dict(type=L2, pairs=['other:backbone.layer1']))
    run(run_cfg(model, tmp_path, length=2))
    change(model)
    if 'third' in model['teachers']:
        model['distillers']['more']['pairs'] = [('backbone.layer1', 'third:backbone.layer1')]
    cfg = run_cfg(model, tmp_path, epochs=2, length=2, resume=True)
    with pytest.raises(DistillationError, match=message):
        run(cfg)


def test_an_aggregation_is_of_a_teacher_that_is_named():
    cfg = taught(classifier(), classifier(16), names=('big',), dfa=dfa('distill', [
        ('backbone.layer2', 'big:backbone.layer2'), ('backbone.layer3', 'big:backbone.layer3')], aggregation='average'))
    model = build(cfg).train()
    assert model.distillation.dfa.teacher_taps == [f'big:backbone.layer{stage}.{block}@end'
                                                   for stage in (2, 3) for block in (0, 1)]
    losses = loss_of(model, model.data_preprocessor(batch('mmpretrain'), True))
    assert torch.isfinite(losses['dfa.loss_layer2'])


@pytest.mark.slow
def test_a_search_with_a_teacher_that_is_named_is_used_by_the_training_after_it(tmp_path):
    stages = [(f'backbone.layer{stage}', f'big:backbone.layer{stage}') for stage in (3, 4)]
    searching = taught(classifier(), classifier(16), names=('big',), dfa=dfa('search', stages))
    runner, _ = search_run(tmp_path, searching)
    path = tmp_path / 'aggregation.json'
    content = json.loads(path.read_text())
    held = runner.model.distillation.teachers.by_name['big']
    assert content['teacher']['sha256'] == held.identity['sha256']
    assert content['groups'][0]['teacher'] == [f'big:backbone.layer3.{block}@end' for block in (0, 1)]
    assert content['meta']['teacher'] == 'ImageClassifier'
    torch.save(dict(state_dict=held.model.state_dict()), tmp_path / 'big.pth')
    cfg = taught(classifier(), classifier(16), names=('big',), dfa=dfa('distill', stages, aggregation=str(path)))
    cfg['teachers']['big'] = dict(config=classifier(16), checkpoint=str(tmp_path / 'big.pth'))
    weights = [group.weights() for group in build(cfg).distillation.dfa.connected_groups()]
    assert weights == [pytest.approx(group['weights']) for group in content['groups']]


def distpro(*levels):
    return dict(type='mmkd.DistProDistiller', mode='equal', levels=list(levels))


ERRORS = {
    'unknown': (dict(pairs=['bigg:backbone.layer4']), r"pairs\[0\].teacher: 'bigg' is no teacher of model.teachers.*"
                "Did you mean 'big'"),
    'forgotten': (dict(pairs=[*PAIRS, 'backbone.layer2']), r"pairs\[3\].teacher: 'backbone.layer2' does not say of which "
                  "teacher it is. Accepted: 'big:backbone.layer2', 'other:backbone.layer2'"),
    'student': (dict(pairs=[('big:backbone.layer4', 'big:backbone.layer4')]),
                r"pairs\[0\].student: .*names a teacher, 'big', .* Accepted: 'backbone.layer4'"),
    'unused': (dict(pairs=['big:backbone.layer4']), r"^model.teachers.other: is needed by no distiller. Accepted: taps "
               "'other:<address>'"),
    'order': (dict(pairs=['big:backbone.layer4', 'other:backbone.layer4', 'big:backbone.layer3']),
              r"pairs\[0\].student: 'backbone.layer4' stands before 'backbone.layer3'"),
    'twice': (dict(pairs=[*PAIRS, PAIRS[2]]), r'pairs\[2\]: .* is there twice'),
    'module': (dict(pairs=['other:backbone.layr4', *PAIRS]),
               r"pairs\[0\].*: 'backbone.layr4' is no module of the student"),
    'teachers-module': (dict(pairs=[('backbone.layer4', 'other:backbone.layr4'), *PAIRS]),
                        r"pairs\[0\].teacher: 'backbone.layr4' is no module of the teacher"),
}


@pytest.mark.parametrize(('options', 'message'), ERRORS.values(), ids=ERRORS)
def test_a_wrong_tap_is_one_error(options, message):
    with pytest.raises(DistillationError, match=message):
        build(taught(classifier(), classifier(16), both=dict(type=L2, **options)))


def test_taps_of_several_teachers_are_no_group_of_layers():
    with pytest.raises(DistillationError, match=r"dfa.pairs: \['big', 'other'\] has taps of several teachers"):
        build(taught(classifier(), classifier(16), dfa=dfa('distill', [
            ('backbone.layer2', 'big:backbone.layer2'), ('backbone.layer3', 'other:backbone.layer3')])))


def test_pathways_go_to_both_teachers():
    model = build(taught(classifier(), classifier(16), distpro=dict(
        distpro('big:backbone.layer3', 'other:backbone.layer3'), connections='all'))).train()
    assert model.distillation.distpro.teacher_taps == ['big:backbone.layer3', 'other:backbone.layer3']
    assert torch.isfinite(loss_of(model, model.data_preprocessor(batch('mmpretrain'), True))['distpro.loss_pathways'])


BLOCKS = {
    'both': (dict(teacher=dict(config=classifier())), '^model.teachers: stands beside `teacher`'),
    'none': (dict(teachers=None), '^model.teacher: is missing. Accepted: a dict; or teachers='),
    'empty': (dict(teachers={}), r'^model.teachers: \{\}. Accepted: a dict that is not empty'),
    'list': (dict(teachers=[1]), r'^model.teachers: \[1\]. Accepted: a dict with the block of each teacher'),
    'name': (dict(teachers={'a b': {}}), '^model.teachers.a b: is no name of a teacher. Accepted: letters'),
    'loss': (dict(teachers=dict(my_loss={})), '^model.teachers.my_loss: is no name of a teacher'),
    'block': (dict(teachers=dict(big=5)), '^model.teachers.big: 5. Accepted: a dict'),
    'key': (dict(teachers=dict(big=dict(config=classifier(), checkpont='x'))),
            "^model.teachers.big.checkpont: .*Did you mean 'checkpoint'"),
    'no-file': (dict(teachers=dict(big=dict(config=classifier(), checkpoint='x.pth'))),
                "^model.teachers.big.checkpoint: 'x.pth' was not found"),
}


@pytest.mark.parametrize(('options', 'message'), BLOCKS.values(), ids=BLOCKS)
def test_a_wrong_block_is_one_error(options, message):
    with pytest.raises(DistillationError, match=message):
        build(dict(taught(classifier(), classifier(16)), **options))


def test_a_name_has_no_place_where_there_is_one_teacher():
    with pytest.raises(DistillationError, match=r"pairs\[0\].teacher: .*names a teacher, 'big'; there is one alone, which "
                       "has no name. Accepted: 'backbone.layer4'"):
        build(distilled(classifier(), classifier(16), one=dict(type=L2, pairs=['big:backbone.layer4'])))


def test_nan_of_a_teacher_is_told_with_its_name():
    model = build(taught(classifier(), classifier(16), both=dict(
        type=L2, pairs=['big:backbone.layer1', 'other:backbone.layer1']))).train()
    with torch.no_grad():
        model.distillation.teachers.by_name['other'].model.backbone.layer1[1].conv2.weight.fill_(float('nan'))
    with pytest.raises(DistillationError, match="^model.teachers.other.checkpoint: tap 'other:backbone.layer1' of the"):
        loss_of(model, model.data_preprocessor(batch('mmpretrain'), True))
