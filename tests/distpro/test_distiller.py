"""What is distilled at which weight: modes, pruning (T10), transfer, and mistakes in a config."""
import pytest
import torch
from distpro_runs import LEVELS, distpro, search_cfg
from loss_tasks import CONFIGS, TASKS
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from zoo import STUDENTS, batch, build, classifier, distilled, pspnet, run, run_cfg

from mmkd_plugin.distiller import Batch
from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways
from mmkd_plugin.losses import hcl
from mmkd_plugin.utils.errors import DistillationError

PATHWAYS = make_pathways(LEVELS, LEVELS, 'lower_to_higher', ['conv1'])


def write(tmp_path, importance, pathways=PATHWAYS, **options):
    importance = torch.tensor(importance, dtype=torch.float64)
    process = Process(pathways, **{'normalisation': 'biased_softmax', 'bias': 1.0, 'tau': 0.5, **options},
                      importance=importance, length=len(importance))
    write_process(tmp_path / 'process.json', process)
    return str(tmp_path / 'process.json')


def built(network=None, **options):
    model = build(distilled(network or classifier(), distpro=distpro(**options))).train()
    return model, model.distillation.distpro


def losses_of(model, scope='mmpretrain'):
    return model(**model.data_preprocessor(batch(scope), True), mode='loss')


@pytest.fixture
def process(tmp_path):
    return write(tmp_path, [[1, 1, 1], [.8, 1.2, .4], [.6, 1.6, 2]])


def at_iteration(iteration):
    MessageHub.get_current_instance().update_info('iter', iteration)


def test_the_loss_is_the_weighted_sum_of_the_distances(mmpretrain_scope):
    model, distiller = built(mode='constant', values=[0, 1, 2], tau=None, loss_weight=3.)
    data = model.data_preprocessor(batch('mmpretrain'), True)
    loss = model(**data, mode='loss')['distpro.loss_pathways']
    student, teacher = model.distillation.features(model, Batch(data['inputs'], None, 0), ['distpro'])
    expected = 0
    for pathway, transform, weight in zip(distiller.pathways, distiller.transforms, (.0723294881, .1966119332, .5344466454)):
        target = teacher[pathway.teacher]
        expected += weight * hcl(transform(student[pathway.student], target.shape[2:]), target)
    torch.testing.assert_close(loss, 3 * expected)


@pytest.mark.parametrize('name', ['cosine', 'cwd', 'sp', 'ofd', 'vid', 'crd', 'masked_generative', 'fgd', 'ifvd'])
def test_a_registered_loss_is_the_distance_of_each_pathway(name):
    scope, tap = next((scope, taps[name]) for scope, taps in TASKS.items() if name in taps)
    model, distiller = built(STUDENTS[scope](), mode='equal', levels=[tap], distance=CONFIGS.get(name, name),
                             transforms=['conv1', 'conv2'])
    value = losses_of(model, scope)['distpro.loss_pathways']
    value.backward()
    assert value.isfinite()
    assert value != 0
    assert model.backbone.layer1[0].conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in distiller.parameters())
    assert len({id(loss) for loss in distiller.distances}) == 2


def test_a_distance_is_given_by_name_or_with_options(mmpretrain_scope):
    def value(distance):
        torch.manual_seed(0)
        return losses_of(built(mode='equal', distance=distance)[0])['distpro.loss_pathways']

    assert value('hcl') == value('mmkd.HCLLoss') == value(dict(type='hcl', levels=[4, 2, 1]))
    assert value(dict(type='mmkd.HCLLoss', levels=[1])) != value('hcl')


def test_what_a_distance_learns_is_kept_and_pruned_with_its_pathway(mmpretrain_scope):
    _, distiller = built(mode='constant', values=[0, 1, 0], distance='vid')
    assert {name.split('.')[1] for name in distiller.state_dict() if name.startswith('distances')} == {'0', '1', '2'}
    idle = {id(parameter) for parameter in distiller.idle_parameters(0)}
    pruned = [*distiller.distances[0].parameters(), *distiller.distances[2].parameters()]
    assert {id(parameter) for parameter in pruned} <= idle
    assert not idle & {id(parameter) for parameter in distiller.distances[1].parameters()}
    assert not [name for name in built(mode='equal')[1].state_dict() if name.startswith('distances')]


@pytest.mark.parametrize('formats', [(torch.channels_last, torch.contiguous_format),
                                     (torch.contiguous_format, torch.channels_last)], ids=['student', 'teacher'])
def test_where_one_side_is_channels_last_the_teachers_maps_follow_the_students_format_once(mmpretrain_scope, formats):
    _, distiller = built(mode='equal')
    sides = [{tap: torch.randn(2, width, 8, 8).to(memory_format=memory_format) for tap, width in zip(LEVELS, widths)}
             for memory_format, widths in zip(formats, ((8, 16), (16, 32)))]
    plain = [{tap: feature.contiguous() for tap, feature in side.items()} for side in sides]
    seen = []
    for distance in distiller.distances:
        distance.register_forward_pre_hook(lambda _, given: seen.append(given))
    given = Batch(torch.zeros(2, 3, 32, 32), None, 0)
    for one, other in zip(distiller.pathway_losses(*sides, given), distiller.pathway_losses(*plain, given)):
        torch.testing.assert_close(one, other)
    assert all(feature.is_contiguous(memory_format=formats[0]) for ours in seen[:3] for feature in ours[:2])
    assert seen[0][1] is seen[1][1], 'one copy for all pathways of a level'


def test_scaling_by_pathways_multiplies_by_their_number(mmpretrain_scope):
    values = []
    for scaled in (False, True):
        torch.manual_seed(0)
        values.append(losses_of(built(mode='equal', scale_by_pathways=scaled)[0])['distpro.loss_pathways'])
    torch.testing.assert_close(values[1], 3 * values[0])


@pytest.mark.parametrize(('options', 'expected'), [
    (dict(mode='equal'), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
    (dict(mode='constant', values=[0, 1, 2], tau=None), {0: .0723294881, 1: .1966119332, 2: .5344466454}),
    (dict(mode='constant', values=[0, 1, 2]), {1: .1966119332, 2: .5344466454}),
    (dict(mode='constant', values=[3, 1, 4], normalisation='biased_l1', bias=2, tau=1), {0: .3, 2: .4})])
def test_fixed_weights(mmpretrain_scope, options, expected):
    assert built(**options)[1].importance.weights(7) == pytest.approx(expected)


def test_a_process_is_stretched_to_the_length_of_the_run(mmpretrain_scope, process):
    _, distiller = built(process=process, mode='process', length=5)
    expected = [[1, 1, 1], [.9, 1.1, .7], [.8, 1.2, .4], [.7, 1.4, 1.2], [.6, 1.6, 2], [.6, 1.6, 2]]
    for iteration, importance in enumerate(expected):
        assert distiller.importance.at(iteration).tolist() == pytest.approx(importance)
        live = [index for index, value in enumerate(importance) if value > .5]
        assert list(distiller.importance.weights(iteration)) == live
    exp = torch.tensor(expected[2]).exp()
    # The pruned pathway still counts in the normaliser.
    assert distiller.importance.weights(2)[1] == pytest.approx((exp[1] / (exp.sum() + torch.tensor(1.).exp())).item())


def test_the_final_importance_at_every_step(mmpretrain_scope, process):
    _, distiller = built(process=process, mode='final')
    assert distiller.importance.weights(0) == distiller.importance.weights(100)
    assert distiller.importance.at(0).tolist() == [.6, 1.6, 2]


def test_a_replay_takes_normalisation_and_threshold_from_the_file(tmp_path, mmpretrain_scope):
    path = write(tmp_path, [[.2, .9, .7]], normalisation='sigmoid', tau=.8, bias=2.)
    _, distiller = built(mode='final', process=path)
    importance = distiller.importance
    assert (importance.normalisation, importance.bias, importance.tau) == ('sigmoid', 2., .8)
    assert list(importance.weights(0)) == [1]
    assert list(built(mode='final', process=path, tau=None)[1].importance.weights(0)) == [0, 1, 2]
    with pytest.raises(DistillationError, match="^model.distillers.distpro.normalisation: 'softmax' is not what the process "
                                                "was searched with, 'sigmoid'. Accepted: the file's, or 'auto'"):
        built(mode='final', process=path, normalisation='softmax')
    with pytest.raises(DistillationError, match='^model.distillers.distpro.bias: 1 is not .* with, 2.0. Accepted: '):
        built(mode='final', process=path, bias=1)


class Note(Hook):
    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append(dict(runner.model.distillation.distpro.importance.weights(runner.iter)))


@pytest.mark.slow
def test_in_a_run_the_position_is_the_global_iteration(tmp_path, process):
    cfg = distilled(classifier(), distpro=distpro(mode='process', process=process))
    note = Note()
    run(run_cfg(cfg, tmp_path / 'run', length=4, epochs=3), before=lambda runner: runner.register_hook(note))
    _, alone = built(mode='process', process=process, length=6)
    assert note.weights == [alone.importance.weights(iteration) for iteration in range(6)]
    assert note.weights[0] != note.weights[3]


def test_outside_a_runner_the_length_has_to_be_given(mmpretrain_scope, process):
    model, _ = built(mode='process', process=process)
    with pytest.raises(DistillationError, match='^model.distillers.distpro.length: is missing: .* Accepted: a whole'):
        losses_of(model)


def counted(modules):
    calls = [0] * len(modules)

    def count(number):
        calls[number] += 1

    for number, module in enumerate(modules):
        module.register_forward_pre_hook(lambda *_, number=number: count(number))
    return calls


def test_T10_the_transform_of_a_pruned_pathway_is_never_called(mmpretrain_scope):
    model, distiller = built(mode='constant', values=[.5, .51, 2])
    calls = counted(distiller.transforms)
    losses_of(model)
    assert calls == [0, 1, 1]


def test_the_teacher_stops_before_levels_that_no_live_pathway_needs(mmpretrain_scope):
    model, _ = built(mode='constant', values=[1, 1, 0])
    backbone = model.distillation.teacher.model.backbone
    calls = counted([backbone.layer1, backbone.layer2])
    losses_of(model)
    assert calls == [1, 0]


def test_with_every_pathway_pruned_the_plain_student_is_left(mmpretrain_scope):
    model, _ = built(mode='constant', values=[0, 0, 0])
    calls = counted([model.distillation.teacher.model.backbone])
    losses = losses_of(model)
    assert set(losses) == {'loss'}
    assert calls == [0]


def test_pruned_pathways_come_back(mmpretrain_scope, tmp_path):
    model, distiller = built(mode='process', process=write(tmp_path, [[1, 1, 1], [0, 0, 0], [1, 1, 1]]), length=3)
    calls = counted(distiller.transforms)
    for iteration in range(3):
        at_iteration(iteration)
        losses_of(model)
    assert calls == [2, 2, 2]


def test_idle_parameters_are_those_of_pruned_transforms(mmpretrain_scope):
    _, distiller = built(mode='constant', values=[0, 1, 0])
    live = {id(parameter) for parameter in distiller.transforms[1].parameters()}
    idle = {id(parameter) for parameter in distiller.idle_parameters(0)}
    assert live | idle == {id(parameter) for parameter in distiller.parameters()}
    assert not live & idle


def test_a_process_is_transferred_to_other_taps(tmp_path, mmpretrain_scope):
    other = make_pathways(['stage1', 'stage2'], ['a', 'b'], 'lower_to_higher', ['conv3'])
    path = write(tmp_path, [[1, 2, 3]], other)
    names = dict(teacher=dict(zip(['stage1', 'stage2'], LEVELS)), student=dict(zip(['a', 'b'], LEVELS)),
                 transform=dict(conv3='conv1'))
    assert built(mode='final', process=path, pathway_map=names)[1].importance.at(0).tolist() == [1, 2, 3]
    message = ('distpro.process: .*process.json. has other taps or transforms. File: stage1 < a by conv3; .* Config: '
               'backbone.*The first that differ: .*pathway_map=dict')
    with pytest.raises(DistillationError, match=message):
        built(mode='final', process=path)
    with pytest.raises(DistillationError, match="^model.distillers.distpro.pathway_map.student.c: 'c' is no key .*: a, b"):
        built(mode='final', process=path, pathway_map=dict(names, student=dict(c='x')))


@pytest.mark.slow
def test_a_searched_process_replays_on_a_student_of_another_width(tmp_path):
    run(search_cfg(tmp_path / 'search'))
    cfg = distilled(classifier(base_channels=4), distpro=distpro(mode='process',
                                                                 process=str(tmp_path / 'search' / 'process.json')))
    _, losses = run(run_cfg(cfg, tmp_path / 'replay', epochs=2))
    assert all(loss['distpro.loss_pathways'] > 0 for loss in losses)


def test_features_without_a_resolution_are_maps_of_one_pixel(mmpretrain_scope):
    model, _ = built(mode='equal', levels=['neck'])
    assert losses_of(model)['distpro.loss_pathways'] > 0


def test_segmentation_levels_of_other_resolutions(mmseg_scope):
    model, _ = built(pspnet(), mode='equal', levels=['backbone.layer1', 'backbone.layer4'], connections='all')
    assert losses_of(model, 'mmseg')['distpro.loss_pathways'] > 0


@pytest.mark.parametrize('levels', [
    [('backbone.layer1', 'backbone.layer2'), ('backbone.layer3', 'backbone.layer4')],
    [dict(student='backbone.layer1', teacher='backbone.layer2'), ('backbone.layer3', 'backbone.layer4')]])
def test_a_level_may_be_another_tap_on_either_side(mmpretrain_scope, levels):
    model, distiller = built(mode='equal', levels=levels)
    teacher, student = ['backbone.layer2', 'backbone.layer4'], ['backbone.layer1', 'backbone.layer3']
    assert distiller.pathways == make_pathways(teacher, student, 'lower_to_higher', ['conv1'])
    assert losses_of(model)['distpro.loss_pathways'] > 0


def test_the_process_is_looked_for_where_a_search_leaves_it(tmp_path):
    write_in = tmp_path / 'search'
    write_in.mkdir()
    write(write_in, [[1, 2, 3]])
    cfg = distilled(classifier(), distpro=distpro(mode='final'))
    runner, _ = run(run_cfg(cfg, tmp_path, length=2))
    assert runner.model.distillation.distpro.importance.at(0).tolist() == [1, 2, 3]
    with pytest.raises(DistillationError, match='^model.distillers.distpro.process: .*elsewhere/search/process.json.*'
                                                'Accepted: .*search'):
        run(run_cfg(cfg, tmp_path / 'elsewhere', length=2))


@pytest.mark.parametrize(('mode', 'importance', 'acts'), [
    ('process', [[.1, .5, .3], [.4, .5, 0]], False), ('process', [[.1, .5, .3], [.4, .6, 0]], True),
    ('process', [[0, 0, 0], [9, 9, 9], [0, 0, 0]], False), ('final', [[9, 9, 9], [.5, .5, .5]], False),
    ('final', [[0, 0, 0], [.5, .5, .51]], True)], ids=['all', 'not at the end', 'between the steps', 'last', 'not last'])
def test_a_run_in_which_all_pathways_are_pruned_does_not_begin(mmpretrain_scope, tmp_path, mode, importance, acts):
    _, distiller = built(process=write(tmp_path, importance), mode=mode)
    if acts:
        distiller.check_run(2)
    else:
        with pytest.raises(DistillationError, match='^tau: 0.5 prunes every pathway in every iteration of the run'):
            distiller.check_run(2)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(mode='replay'), r"mode: 'replay' is not known. Accepted: process, final, equal, constant, search"),
    (dict(mode='process'), r'process: is missing. Accepted: the process.json .*equal, constant, search'),
    (dict(mode='constant'), r"values: is missing with mode='constant'. Accepted: finite numbers, the importance of"),
    (dict(mode='constant', values=[1, 2]), r'values: \[1, 2\]. Accepted: 3 finite numbers'),
    (dict(mode='constant', values=[1, 2, float('nan')]), r'values: \[1, 2, nan\]. Accepted: a list of finite numbers'),
    (dict(mode='equal', levels='backbone.layer1'), r"levels: 'backbone.layer1' is no list of pairs. Accepted: a list: "),
    (dict(mode='equal', levels=[]), r'levels: \[\] is no list of pairs. Accepted: a list: \(student tap, teacher tap\)'),
    (dict(mode='equal', levels=[('a', 'b'), ('c', 'b')]), r"levels: \['b', 'b'\] names a level of the teacher twice. "
                                                          'Accepted: different taps, low to high'),
    (dict(mode='equal', levels=[('a', 'b'), ('a', 'c')]), r"levels: \['a', 'a'\] names a level of the student twice"),
    (dict(mode='equal', teacher=['a'], student=['a']), r"teacher: 'teacher' is no key here. (Accepted: .*)?Write levels="),
    (dict(mode='equal', distance='l3'), r"distance: 'l3' is not known. Did you mean 'l\d'.*Accepted: .*'l2', 'l1', .*'hcl'"),
    (dict(mode='equal', distance=dict(type='hcl', level=[4])), r"distance.level: 'level' is no key here. Did you mean 'l"),
    (dict(mode='equal', distance='kl'), r"distance: 'kl' is not known. .*Accepted: 'ab', 'ofd'"),
    (dict(mode='equal', normalisation='max'), r"normalisation: 'max' is not known. Did you mean 'softmax'.*Accepted: bia"),
    (dict(mode='equal', tau='x'), r"tau: 'x'. Accepted: a number, or None, 'auto'"),
    (dict(mode='equal', bias=None), r"bias: None. Accepted: a number, or 'auto'"),
    (dict(mode='equal', length=0), r'length: 0. Accepted: a whole number > 0'),
    (dict(mode='equal', pathway_map=[1]), r'pathway_map: \[1\]. Accepted: a dict of dicts: teacher={old: new}'),
    (dict(mode='equal', pathway_map=dict(teacher='x')), r"pathway_map.teacher: 'x'. Accepted: a dict \{old: new\}"),
    (dict(mode='equal', pathway_map=dict(teacher=dict(a=1))), r"pathway_map.teacher: \{'a': 1\}. Accepted: a dict"),
    (dict(mode='equal', conections='all'), r"conections: 'conections' is no key here. Did you mean 'connections'")])
def test_a_wrong_option_is_one_error_that_names_the_distiller(mmpretrain_scope, options, message):
    with pytest.raises(DistillationError, match=r'^model\.distillers\.distpro\.' + message):
        built(**options)
