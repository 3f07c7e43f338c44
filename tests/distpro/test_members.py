"""A process over the losses of other distillers: exact under any known optimiser, each loss made once."""
import json

import pytest
import torch
from distpro_runs import OTHERS, distpro, everything, hook_of, pool, pool_cfg
from distpro_truth import CASES, assert_exact, error, smooth_model
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from zoo import build, classifier, distilled, loader, run

from mmkd_plugin.distpro import Process, read_process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.members import OtherLoss, name_members
from mmkd_plugin.distpro.pathways import Pathway
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.errors import DistillationError

SMOOTH = dict(
    mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=['stage1', 'stage2'], reduction='mean', loss_weight=.7),
    kd=dict(type='mmkd.LogitsDistiller', pairs=['head'], temperature=2),
    cwd=dict(type='mmkd.FeatureDistiller', pairs=['stage2'], loss='cwd'),
    dist=dict(type='mmkd.LogitsDistiller', pairs=['head'], loss='dist'),
    review=dict(type='mmkd.ReviewKDDistiller', pairs=['stage1', 'stage2']),
    dfa=dict(type='mmkd.FeatureAggregationDistiller', aggregation='average',
             pairs=[dict(student='stage2', teacher=['stage2.1', 'stage2'])]))
MEMBERS = ['mgd.loss_stage1', 'mgd.loss_stage2', 'kd', 'cwd', 'dist', 'review', 'dfa']


def smooth_pool(members, **options):
    others = {name: SMOOTH[name] for name in dict.fromkeys(member.partition('.')[0] for member in members)}
    model = smooth_model(others, members=list(members), scales=None, **options)
    for stage in model.distillation.mgd.matched_stages() if 'mgd' in others else ():
        stage.assignment.copy_(torch.arange(stage.assignment.numel()).view_as(stage.assignment) % len(stage.margins))
        stage.margins.fill_(-.1)
        stage.matched_flag.fill_(True)
        stage.matched = True
    return model


@pytest.mark.slow
@pytest.mark.parametrize('max_norm', [None, .05], ids=['unclipped', 'clipped'])
@pytest.mark.parametrize('name', list(CASES))
def test_it_is_exact_for_whatever_losses_early_and_late_in_a_training(name, max_norm):
    late = (150,) if (name, max_norm) == ('AdamW', .05) else ()
    assert_exact(smooth_pool(MEMBERS), name, (0, 3, 30, *late), max_norm)


@pytest.mark.parametrize('gradients', [True, False], ids=['from the backward', 'losses in forward mode'])
@pytest.mark.parametrize('members', [['mgd', 'kd'], ['kd', 'dist'], ['cwd', 'review'], ['dfa', 'cwd']], ids=' and '.join)
def test_without_levels_too(members, gradients):
    model = smooth_pool(members, levels=None, transforms=None)
    optimiser = torch.optim.Adam(model.parameters(), lr=.01)
    for number in range(2):
        found, _ = error(model, optimiser, number, None, gradients)
        assert found < 1e-6, number


class Calls(Hook):
    """Counts what is called in each iteration, and the backwards through the student."""

    def __init__(self, **modules):
        self.paths, self.rows = modules, []

    def before_train(self, runner):
        for name, find in self.paths.items():
            find(runner.model).register_forward_pre_hook(lambda *_, name=name: self.add(name))
        runner.model.backbone.layer2.register_full_backward_hook(lambda *_: self.add('backward'))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rows.append(dict.fromkeys((*self.paths, 'backward'), 0))

    def add(self, name):
        if self.rows:  # not in an update of the matching before training
            self.rows[-1][name] += 1


OF_MODEL = dict(
    teacher=lambda model: model.distillation.teacher.model.backbone, student=lambda model: model.backbone,
    deep=lambda model: model.distillation.teacher.model.backbone.layer4)
OF_MEMBERS = dict(
    norm3=lambda model: model.distillation.mgd.stages[0].norm, norm4=lambda model: model.distillation.mgd.stages[1].norm,
    adapter=lambda model: model.distillation.l2.adapters[0], kd=lambda model: model.distillation.kd.loss,
    dist=lambda model: model.distillation.dist.loss, connector=lambda model: model.distillation.dfa.groups[0].to_teacher)


def test_a_further_member_adds_its_own_loss_and_nothing_else(tmp_path):
    calls = Calls(**OF_MODEL, **OF_MEMBERS)
    runner, _ = run(pool_cfg(tmp_path, length=4), before=lambda runner: runner.register_hook(calls))
    assert hook_of(runner).search.steps == 2
    assert hook_of(runner).search.skipped == 0
    for row in calls.rows:
        assert row == dict(dict.fromkeys(OF_MEMBERS, 1), teacher=1, deep=1, student=3, backward=2)


def constant(**values):
    """A process with the importance of each member; the others' is 1."""
    distillers = pool('constant', tau=.5)
    names = name_members([*(Pathway(*'abc') for _ in range(3)), *map(OtherLoss.parse, distillers['distpro']['members'])])
    names[:3] = ['one', 'two', 'three']
    distillers['distpro']['values'] = [values.get(name.replace('.', '_'), 1.) for name in names]
    return distillers


@pytest.mark.parametrize(('pruned', 'not_called', 'deep'), [
    (dict(mgd_layer4=0, kd=0), ['norm4', 'kd'], 1), (dict(dfa=0), ['connector'], 1),
    (dict(mgd_layer4=0, kd=0, dist=0, l2=0), ['norm4', 'kd', 'dist', 'adapter'], 0)],
    ids=['one of MGD and KD', 'DFA', 'all of the last stage'])
def test_a_member_that_is_pruned_costs_nothing(tmp_path, pruned, not_called, deep):
    calls = Calls(**OF_MODEL, **OF_MEMBERS)
    _, losses = run(pool_cfg(tmp_path, constant(**pruned), length=2), before=lambda runner: runner.register_hook(calls))
    expected = {name: int(name not in not_called) for name in OF_MEMBERS}
    assert calls.rows == [dict(expected, teacher=1, deep=deep, student=1, backward=1)]
    assert ('kd.loss_kd' in losses[0]) == ('kd' not in pruned)
    assert ('mgd.loss_layer4' in losses[0]) == ('mgd_layer4' not in pruned)


def test_the_weights_are_applied_once_and_the_sum_is_that_of_the_distillers_alone(tmp_path):
    values = [.2, .4, .6, .8, 1., 1.2, 1.4]
    members = ['mgd', 'kd', 'l2', 'dfa']
    weights = torch.softmax(torch.tensor([*values, 1.]).double(), 0)[:-1]
    _, alone = run(pool_cfg(tmp_path / 'alone', pool('equal', members), length=2))
    MessageHub._instance_dict.clear()
    _, pooled = run(pool_cfg(tmp_path / 'pool', pool('constant', members, values=values, tau=None), length=2))
    for weight, member in zip(weights.tolist()[3:], members):
        for name in (name for name in alone[0] if name.startswith(f'{member}.')):
            assert pooled[0][name] == pytest.approx(alone[0][name] * 7 * weight, rel=1e-5)


@pytest.mark.slow
def test_what_a_search_leaves_is_a_run_with_constant_weights(tmp_path):
    searched, losses = run(pool_cfg(tmp_path / 'search', hook=dict(lr=1e-30)))
    state = everything(searched)
    MessageHub._instance_dict.clear()
    plain, expected = run(pool_cfg(tmp_path / 'plain', pool('constant', values=[1.] * 9, tau=None)))
    assert losses == expected
    assert all(torch.equal(value, state[name]) for name, value in everything(plain).items())


@pytest.mark.slow
def test_a_search_is_replayed_pruned_and_taken_to_distillers_of_other_names(tmp_path):
    run(pool_cfg(tmp_path / 'search', hook=dict(lr=.4)))
    file = tmp_path / 'search/process.json'
    content = json.loads(file.read_text())
    assert content['version'] == 2
    assert content['members'][3:5] == [dict(distiller='mgd', loss='loss_layer3'), dict(distiller='mgd', loss='loss_layer4')]
    assert content['members'][5] == dict(distiller='kd')
    process = read_process(file)
    MessageHub._instance_dict.clear()
    runner, losses = run(pool_cfg(tmp_path / 'replay', pool('process', process=str(file))))
    assert torch.equal(runner.model.distillation.distpro.importance.at(3), process.importance[-1])
    MessageHub._instance_dict.clear()
    others = dict(OTHERS, guided=OTHERS['mgd'])
    members = ['guided.loss_layer3', 'guided.loss_layer4', 'kd', 'dist', 'l2', 'dfa']
    cfg = pool_cfg(tmp_path / 'other', pool('process', members, others, process=str(file), pathway_map=dict(
        distiller=dict(mgd='guided'))))
    cfg.custom_hooks = pool_cfg(tmp_path).custom_hooks[:1]
    _, renamed = run(cfg)
    assert [{name.replace('guided', 'mgd'): value for name, value in row.items()} for row in renamed] == losses


@pytest.mark.parametrize(('distillers', 'path', 'said'), [
    (dict(kd=OTHERS['kd'], distpro=distpro(members=['kdd'])), 'distpro.members', "Did you mean 'kd'"),
    (dict(kd=OTHERS['kd'], distpro=distpro(members=['kd', 'kd'])), 'distpro.members', 'a list of different names'),
    (dict(kd=OTHERS['kd'], distpro=distpro(members=['kd.loss_kd'])), 'distpro.members[0]', "Accepted: 'kd'"),
    (dict(mgd=OTHERS['mgd'], distpro=distpro(members=['mgd.loss_layer3'])), 'distpro.members[0]',
     "without 'mgd.loss_layer4'"),
    (dict(mgd=OTHERS['mgd'], distpro=distpro(members=['mgd.loss_layer5'])), 'distpro.members[0]', 'is no loss of mgd'),
    (dict(mgd=OTHERS['mgd'], distpro=distpro(members=['mgd.loss_layer3', 'mgd.loss_layr4'])), 'distpro.members[1]',
     "is no loss of mgd. Did you mean 'mgd.loss_layer4'"),
    (dict(mgd=OTHERS['mgd'], distpro=distpro(members=['mgd', 'mgd.loss_layer3'])), 'distpro.members', 'each loss once'),
    (dict(kd=OTHERS['kd'], distpro=distpro('equal', members=['kd', 'distpro'])), 'distpro.members', 'is no other distiller'),
    (dict(kd=dict(OTHERS['kd'], every=2), distpro=distpro(members=['kd'])), 'kd.every', 'Accepted: 1'),
    (dict(kd=dict(OTHERS['kd'], warmup=2), distpro=distpro(members=['kd'])), 'kd.warmup', 'Accepted: 0'),
    (dict(kd=dict(OTHERS['kd'], loss_scale='auto'), distpro=distpro(members=['kd'])), 'kd.loss_scale', 'Accepted: 1'),
    (dict(kd=dict(OTHERS['kd'], loss_weight=0), distpro=distpro(members=['kd'])), 'kd.loss_weight', 'a number > 0'),
    (dict(kd=OTHERS['kd'], one=distpro('equal', members=['kd']), distpro=distpro('equal', members=['kd'])),
     'distpro.members', 'each distiller in one process'),
    (dict(one=distpro('equal'), distpro=distpro('equal', members=['one'])), 'distpro.members[0]', 'is a process itself'),
    (dict(distpro=dict(type='mmkd.DistProDistiller')), 'distpro.levels', 'or members=[...]'),
    (dict(kd=OTHERS['kd'], distpro=dict(distpro(members=['kd']), levels=None)), 'distpro.transforms', 'without levels'),
    (dict(kd=OTHERS['kd'], distpro=distpro(members=['kd'], loss_scale=2.)), 'distpro.loss_scale', '1, and loss_weight')],
    ids=lambda value: value if isinstance(value, str) else '')
def test_what_does_not_fit_is_one_error_with_its_key(distillers, path, said):
    with pytest.raises(DistillationError) as error:
        build(distilled(classifier(), **distillers))
    assert str(error.value).startswith(f'model.distillers.{path}: ')
    assert said in str(error.value)


def test_the_file_says_members_by_name_and_what_it_cannot_know_stays_open(tmp_path):
    members = [Pathway('a', 'b', 'conv1'), OtherLoss('kd'), OtherLoss('mgd', 'loss_layer4')]
    written = Process(members, 'softmax', 1., None, torch.rand(3, 3).double().round(decimals=6), 3, total=2.,
                      scales=[1., .5, 3e-4], seeds=[0, 3],
                      stability=dict(entropy=[.5, .25], significance=None, agreement=.9))
    write_process(tmp_path / 'process.json', written)
    read = read_process(tmp_path / 'process.json')
    assert {**vars(read), 'importance': None, 'seeds': list(read.seeds)} == {
        **vars(written), 'importance': None, 'seeds': list(written.seeds)}
    assert torch.equal(read.importance, written.importance)
    assert name_members(read.members) == ['a-b', 'kd', 'mgd.layer4']
    assert [str(member) for member in read.members] == ['a < b by conv1', 'kd', 'mgd.loss_layer4']


@pytest.mark.parametrize(('key', 'value', 'said'), [
    ('members', [dict(distiller='kd', transform='conv1')], 'or with distiller and, maybe, loss'),
    ('total', 0, 'a number > 0, or null'), ('scales', [1], '2 numbers > 0'), ('scales', [1, -1], '2 numbers > 0'),
    ('seeds', [1.5], 'a list of whole numbers'), ('stability', dict(entropy='x'), 'an object of numbers')])
def test_a_broken_file_of_version_2_is_one_error(tmp_path, key, value, said):
    path = tmp_path / 'process.json'
    write_process(path, Process([OtherLoss('kd'), OtherLoss('l2')], 'softmax', 1., .5, torch.ones(2, 2).double(), 2))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(content, **{key: value})))
    with pytest.raises(DistillationError, match=said):
        read_process(path)


def test_the_search_of_a_pool_updates_its_matching_on_images_of_its_own(tmp_path):
    cfg = pool_cfg(tmp_path, pool('process', ['mgd', 'dfa']), search=dict(), val_dataloader=loader('mmpretrain', 4))
    for given in ([dict(type='mmkd.MatchingUpdateHook', interval=3, num_images=2)], []):
        cfg.custom_hooks = given
        first, update = derive_search(cfg).custom_hooks
        assert (first.type, update.type) == ('mmkd.ProcessSearchHook', 'mmkd.MatchingUpdateHook')
        assert update.interval == (3 if given else 'auto')
        assert update.dataloader.dataset.type == 'mmkd.SplitDataset'
