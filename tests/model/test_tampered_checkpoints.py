"""A checkpoint that has been tampered with is one DistillationError, which names the entry; nothing is loaded from it."""
import copy
import math
import re

import pytest
import torch
from dfa_runs import searching
from distpro_runs import search_cfg
from mmengine.runner import Runner
from zoo import Stop, classifier, distilled, loader, mgd, run, run_cfg, update_hook

from mmkd_plugin.model.checkpoint import StatefulHook
from mmkd_plugin.model.resume.digest import digest
from mmkd_plugin.model.runner import attach_to_runner
from mmkd_plugin.utils.checkpoint_files import open_checkpoint
from mmkd_plugin.utils.errors import DistillationError

GONE = object()
ASSIGNMENT = 'mmkd.distillers.mgd.stages\\.0\\.assignment'
RNG = 'mmkd.ranks[0].rng.'


def model():
    return distilled(classifier(4), classifier(8), mgd=mgd('backbone.layer1@preact'),
                     l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], loss_scale='auto'))


def cfg_of(folder, **options):
    return run_cfg(model(), folder, length=4, hooks=[update_hook('mmpretrain')], param_scheduler=[
        dict(type='MultiStepLR', milestones=[1], by_epoch=True)], **options)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A folder, the checkpoint of one epoch in it, and a runner that is about to resume from it."""
    folder = tmp_path_factory.mktemp('saved')
    run(cfg_of(folder))
    cfg = cfg_of(folder, resume=True)
    cfg.train_cfg.max_epochs = 2
    runner = Runner.from_cfg(cfg)
    attach_to_runner(runner)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return folder, open_checkpoint(folder / 'epoch_1.pth'), runner


def parts(path):
    """``'a.b[0].c\\.d'`` in its parts: a dot with a backslash is part of a name, a number in brackets a place in a list."""
    text = path.replace('\\.', '\0').replace('[', '.#').replace(']', '')
    return [int(part[1:]) if part.startswith('#') else part.replace('\0', '.') for part in text.split('.') if part]


def changed(checkpoint, path, value, redigest):
    """The checkpoint with another value at a path."""
    content = copy.deepcopy(checkpoint)
    *parents, last = parts(path)
    owner = content
    for part in parents:
        owner = owner[int(part) if isinstance(next(iter(owner), ''), int) and isinstance(owner, dict) else part]
    if isinstance(owner, dict) and isinstance(next(iter(owner), ''), int):
        last = int(last)
    if value is GONE:
        del owner[last]
    else:
        present = owner.get(last) if isinstance(owner, dict) else owner[last]
        owner[last] = value(present) if callable(value) else value
    section = content.get('mmkd')
    if redigest and isinstance(section, dict) and 'digest' in section:
        section['digest'] = digest({name: item for name, item in section.items() if name != 'digest'})
    return content


def filled(value):
    return lambda tensor: torch.full_like(tensor, value)


def one(value):
    def put(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor
    return put


MMKD = {
    'section-none': ('mmkd', None, 'no distillation state'), 'section-gone': ('mmkd', GONE, 'no distillation state'),
    'section-list': ('mmkd', [], 'mmkd: a list of 0'), 'section-text': ('mmkd', 'x', "mmkd: 'x'"),
    'version-gone': ('mmkd.version', GONE, 'mmkd.version: is missing'),
    'version-text': ('mmkd.version', '3', "mmkd.version: '3'"), 'version-true': ('mmkd.version', True, 'mmkd.version: True'),
    'version-later': ('mmkd.version', 4, 'mmkd.version: 4'), 'version-none': ('mmkd.version', None, 'mmkd.version: None'),
    'version-before': ('mmkd.version', 2, 'mmkd.(position|validated|ranks|digest): .*is no key here'),
    'digest-gone': ('mmkd.digest', GONE, 'mmkd.digest: is missing'),
    'more': ('mmkd.more', lambda _: 1, 'mmkd.more: .*no key'),
    'distillers-gone': ('mmkd.distillers', GONE, 'mmkd.distillers: is missing'),
    'distillers-list': ('mmkd.distillers', [], 'mmkd.distillers: a list'),
    'distiller-gone': ('mmkd.distillers.l2', GONE, 'resume: .*has the distillers'),
    'distiller-none': ('mmkd.distillers.l2', None, 'mmkd.distillers.l2: None'),
    'distiller-number': ('mmkd.distillers.l2', 3, 'mmkd.distillers.l2: 3'),
    'state-gone': (ASSIGNMENT, GONE, 'stages.0.assignment: is missing'),
    'state-list': (ASSIGNMENT, [[0]], 'stages.0.assignment: a list'),
    'state-large': (ASSIGNMENT, filled(10 ** 6), 'stages.0.assignment: .*holds numbers from'),
    'state-one-large': (ASSIGNMENT, one(8), 'stages.0.assignment: .*to 8.*< 8'),
    'state-negative': (ASSIGNMENT, one(-1), 'stages.0.assignment: .*from -1'),
    'state-floats': (ASSIGNMENT, lambda tensor: tensor.float(), 'stages.0.assignment: .*float32'),
    'state-shape': (ASSIGNMENT, lambda tensor: tensor[:1], 'stages.0.assignment: .*shape'),
    'state-complex': (ASSIGNMENT, lambda tensor: tensor.to(torch.complex64), 'stages.0.assignment: .*complex64'),
    'flag-number': ('mmkd.distillers.mgd.stages\\.0\\.matched_flag', torch.tensor(7), 'matched_flag: .*int64'),
    'margins-nan': ('mmkd.distillers.mgd.stages\\.0\\.margins', filled(math.nan), 'margins: .*NaN'),
    'margins-infinite': ('mmkd.distillers.mgd.stages\\.0\\.margins', filled(math.inf), 'margins: .*infinity'),
    'adapter-nan': ('mmkd.distillers.l2.strength\\.calibration\\.log_scales', one(math.nan), 'log_scales: .*NaN'),
    'scale-absurd': ('mmkd.distillers.l2.strength\\.calibration\\.log_scales', one(1e3), 'log_scales: .*to 1000.0.*< 60'),
    'scale-of-nothing': ('mmkd.distillers.l2.strength\\.calibration\\.log_scales', one(-1e3), 'log_scales: .*from -1000.0'),
    'counted-large': ('mmkd.distillers.l2.strength\\.calibration\\.counted', torch.tensor(10 ** 6), 'counted: .*1000000'),
    'counted-negative': ('mmkd.distillers.l2.strength\\.calibration\\.counted', torch.tensor(-5), 'counted: .*-5'),
    'state-more': ('mmkd.distillers.l2.other', lambda _: torch.ones(2), 'l2.other: .*no key'),
    'descriptions-gone': ('mmkd.descriptions', GONE, 'mmkd.descriptions: is missing'),
    'description-gone': ('mmkd.descriptions.mgd', GONE, 'mmkd.descriptions.mgd: is missing'),
    'description-number': ('mmkd.descriptions.mgd', 5, 'mmkd.descriptions.mgd: 5'),
    'description-other': ('mmkd.descriptions.mgd', 'x', 'is not the one of the checkpoint'),
    'hooks-none': ('mmkd.hooks', None, 'mmkd.hooks: None'), 'hooks-more': ('mmkd.hooks.other', lambda _: {}, 'hooks'),
    'teacher-gone': ('mmkd.teacher', GONE, 'mmkd.teacher: is missing'),
    'teacher-list': ('mmkd.teacher', [1], 'mmkd.teacher: a list'),
    'teacher-hash': ('mmkd.teacher.sha256', 'f' * 64, 'other weights'),
    'teacher-hash-none': ('mmkd.teacher.sha256', None, 'mmkd.teacher.sha256: None'),
    'position-gone': ('mmkd.position', GONE, 'mmkd.position: is missing'),
    'position-negative': ('mmkd.position.epoch', -1, 'mmkd.position.epoch: -1'),
    'position-other': ('mmkd.position.iter', 7, 'meta.iter: 2 has been changed'),
    'runtime-list': ('mmkd.runtime', lambda _: [], 'mmkd.runtime: a list of 0'),
    'runtime-of-another': ('mmkd.runtime', lambda _: dict(other=dict(fold_bn=True, channels_last=True)), 'runtime.other'),
    'runtime-number': ('mmkd.runtime', lambda _: dict(teacher=dict(fold_bn=1, channels_last=True)), 'teacher.fold_bn: 1'),
    'runtime-less': ('mmkd.runtime', lambda _: dict(teacher=dict(fold_bn=True)), 'teacher.channels_last: is missing'),
    'settings-list': ('mmkd.settings', [], 'mmkd.settings: a list of 0'),
    'settings-number': ('mmkd.settings.model\\.teacher.runtime', 1, 'settings.model.teacher.runtime: 1'),
    'validated-text': ('mmkd.validated', 'False', "mmkd.validated: 'False'"),
    'ranks-none': ('mmkd.ranks', None, 'mmkd.ranks: None'), 'ranks-empty': ('mmkd.ranks', [], 'mmkd.ranks: a list of 0'),
    'rank-number': ('mmkd.ranks[0]', 1, r'mmkd.ranks\[0\]: 1'),
    'rng-gone': ('mmkd.ranks[0].rng', GONE, r'mmkd.ranks\[0\].rng: is missing'),
    'rng-empty': ('mmkd.ranks[0].rng', {}, r'rng.python: is missing'),
    'rng-torch-short': (f'{RNG}torch', torch.zeros(3, dtype=torch.uint8), 'rng.torch: .*shape'),
    'rng-torch-floats': (f'{RNG}torch', lambda tensor: tensor.float(), 'rng.torch: .*float32'),
    'rng-torch-zeros': (f'{RNG}torch', filled(0), 'rng: is taken by no generator'),
    'rng-numpy-name': (f'{RNG}numpy[0]', 'PCG64', r"numpy\[0\]: 'PCG64'"),
    'rng-numpy-position': (f'{RNG}numpy[2]', 10 ** 6, r'numpy\[2\]: 1000000'),
    'rng-numpy-words': (f'{RNG}numpy[1]', filled(-1), r'numpy\[1\]: .*-1'),
    'rng-python-short': (f'{RNG}python[1]', [1, 2, 3], r'python\[1\]: a list of 3'),
    'rng-python-text': (f'{RNG}python[1][4]', 'x', r"python\[1\]\[4\]: 'x'"),
    'rng-python-position': (f'{RNG}python[1][624]', 9999, r'python\[1\]: 9999'),
    'rng-python-version': (f'{RNG}python[0]', 1, r'python\[0\]: 1'),
    'workers-list': ('mmkd.ranks[0].workers', [], 'workers: a list'),
    'workers-shape': ('mmkd.ranks[0].workers.train', lambda _: torch.ones(2, 3, dtype=torch.long), 'workers.train: .*shape'),
    'buffers-unknown': ('mmkd.ranks[0].buffers.model', lambda _: dict(x=torch.ones(1)), 'buffers.model.x'),
    'gradients-unknown': ('mmkd.ranks[0].gradients.x', lambda _: torch.ones(1), 'gradients.x')}
"""By the name of a change: where, the value (or what makes it), and what the message says. The digest is made anew."""

UNNOTICED = {
    'assignment-turned': (ASSIGNMENT, lambda tensor: tensor.flip(0)),
    'margins-other': ('mmkd.distillers.mgd.stages\\.0\\.margins', lambda tensor: tensor + 1),
    'adapter-other': ('mmkd.distillers.l2.adapters\\.0\\.weight', lambda tensor: tensor * 2),
    'rng-other': (f'{RNG}numpy[2]', 3), 'rng-word': (f'{RNG}python[1][3]', 12345), 'validated': ('mmkd.validated', True),
    'runtime': ('mmkd.runtime', lambda _: dict(teacher=dict(fold_bn=True, channels_last=False))),
    'settings': ('mmkd.settings.model\\.teacher.runtime', "'auto'"),
    'teacher-place': ('mmkd.teacher.checkpoint', 'elsewhere'), 'digest-other': ('mmkd.digest', '0' * 64)}
"""Changes to values that could be: only the digest tells."""

OTHERS = {
    'epoch-text': ('meta.epoch', '1', "meta.epoch: '1'"), 'epoch-negative': ('meta.epoch', -1, 'meta.epoch: -1'),
    'epoch-gone': ('meta.epoch', GONE, 'meta.epoch: is missing'), 'epoch-other': ('meta.epoch', 2, 'meta.epoch: 2 has been'),
    'iter-float': ('meta.iter', 2.0, 'meta.iter: 2.0'), 'iter-other': ('meta.iter', 5, 'meta.iter: 5 has been changed'),
    'seed-text': ('meta.seed', 'x', "meta.seed: 'x'"), 'seed-other': ('meta.seed', 7, 'meta.seed: 7 has been changed'),
    'meta-gone': ('meta', GONE, 'meta: is missing'), 'meta-list': ('meta', [], 'meta: is a list'),
    'weights-gone': ('state_dict', GONE, 'state_dict: is missing'),
    'weight-gone': ('state_dict.head\\.fc\\.bias', GONE, 'state_dict.head.fc.bias: is missing'),
    'weight-none': ('state_dict.head\\.fc\\.bias', None, 'state_dict.head.fc.bias: None'),
    'weight-shape': ('state_dict.head\\.fc\\.bias', torch.ones(3), 'state_dict.head.fc.bias: .*shape'),
    'weight-nan': ('state_dict.head\\.fc\\.bias', filled(math.nan), 'state_dict.head.fc.bias: .*NaN'),
    'weight-bool': ('state_dict.head\\.fc\\.bias', lambda tensor: tensor > 0, 'state_dict.head.fc.bias: .*bool'),
    'optimizer-gone': ('optimizer', GONE, 'optimizer: is missing'),
    'optimizer-list': ('optimizer', [], 'optimizer: is a list'),
    'groups-gone': ('optimizer.param_groups', GONE, 'optimizer.param_groups: None'),
    'groups-empty': ('optimizer.param_groups', [], 'optimizer.param_groups: a list of 0'),
    'group-params': ('optimizer.param_groups[0].params', [0], r'param_groups\[0\].params: a list of 1'),
    'rate-nan': ('optimizer.param_groups[0].lr', math.nan, r'param_groups\[0\].lr: nan'),
    'rate-text': ('optimizer.param_groups[0].lr', 'x', r"param_groups\[0\].lr: 'x'"),
    'rate-gone': ('optimizer.param_groups[0].lr', GONE, r'param_groups\[0\].lr: is missing'),
    'state-list': ('optimizer.state', [], 'optimizer.state: a list'),
    'moment-shape': ('optimizer.state.0.momentum_buffer', torch.ones(2), 'optimizer.state.0.momentum_buffer: .*shape'),
    'moment-infinite': ('optimizer.state.0.momentum_buffer', filled(math.inf), 'momentum_buffer: .*infinity'),
    'schedulers-gone': ('param_schedulers', GONE, 'param_schedulers: None'),
    'schedulers-more': ('param_schedulers', lambda states: states * 2, 'param_schedulers: a list of 2'),
    'scheduler-text': ('param_schedulers[0]', 'x', r"param_schedulers\[0\]: 'x'"),
    'scheduler-step': ('param_schedulers[0].last_step', 'x', r"param_schedulers\[0\].last_step: 'x'"),
    'scheduler-more': ('param_schedulers[0].step', lambda _: 1, r'param_schedulers\[0\].step: is no entry'),
    'log-number': ('message_hub.log_scalars.train/lr', 1, 'message_hub.log_scalars.train/lr: 1'),
    'foreach-dict': ('optimizer.param_groups[0].foreach', {'a': 1}, r'param_groups\[0\].foreach: a dict'),
    'hub-none': ('message_hub', None, 'message_hub: is None'), 'hub-empty': ('message_hub', {}, 'message_hub.log_scalars')}
"""Changes to what mmengine keeps."""


OF_OPTIMISER = {
    'none': ('', None, 'param_groups: None'), 'list': ('', [1], 'param_groups: None'),
    'state-none': ('.state', None, 'state: None'), 'state-list': ('.state', [], 'state: a list'),
    'state-empty': ('.state.0', {}, 'state.0.step: is missing'),
    'state-other': ('.state.0.other', lambda _: 1, 'state.0.other'),
    'step-gone': ('.state.0.step', GONE, 'state.0.step: is missing'),
    'step-none': ('.state.0.step', None, 'state.0.step: None'),
    'step-negative': ('.state.0.step', torch.tensor(-5.), 'state: .*(no optimiser|NaN)'),
    'moment-text': ('.state.0.exp_avg', 'x', "state.0.exp_avg: 'x'"),
    'moment-huge': ('.state.0.exp_avg', filled(3e38), 'state: a step from there ends at NaN or infinity'),
    'moment-nan': ('.state.0.exp_avg', filled(math.nan), 'exp_avg: .*NaN'),
    'moment-complex': ('.state.0.exp_avg', lambda tensor: tensor.to(torch.complex64), 'exp_avg: .*complex64'),
    'moment-shape': ('.state.0.exp_avg', lambda tensor: tensor[:1], 'exp_avg: .*shape'),
    'square-negative': ('.state.0.exp_avg_sq', lambda tensor: -1 - tensor, 'state: a step from there ends at NaN'),
    'decay-true': ('.param_groups[0].weight_decay', True, 'weight_decay: True'),
    'rate-none': ('.param_groups[0].lr', None, 'lr: None'), 'rate-negative': ('.param_groups[0].lr', -1, 'lr: -1'),
    'rate-huge': ('.param_groups[0].lr', 1e300, 'lr: 1e.300'), 'betas-none': ('.param_groups[0].betas', None, 'betas: None'),
    'eps-nan': ('.param_groups[0].eps', math.nan, 'eps: nan'), 'eps-negative': ('.param_groups[0].eps', -1., 'eps: -1.0'),
    'fused-number': ('.param_groups[0].fused', 3, 'fused: 3'), 'fused': ('.param_groups[0].fused', True, 'fused: True'),
    'groups-shorter': ('.param_groups', [], 'param_groups: a list of 0')}
"""What may be wrong with the state of a search's own optimiser."""

OF_SEARCHES = {
    'process': {'state-gone': ('.optimiser.state', {}, 'optimiser.state: a dict of 0'),
                'skipped': ('.skipped', 10 ** 6, 'search.skipped: 1000000'),
                'windows': ('.evidence.windows', 9, 'search.evidence.windows: 9'),
                'samples': ('.evidence.samples', [], 'search.evidence.samples: a list of 0'),
                'sample-nan': ('.evidence.samples[0]', filled(math.nan), r'evidence.samples\[0\]: .*NaN'),
                'half-short': ('.evidence.halves[0]', [0.], r'evidence.halves\[0\]: a list of 1'),
                'point-empty': ('/course.importance[1]', [], r'course.importance\[1\]: a list of 0'),
                'point-longer': ('/course.importance[1]', lambda point: [*point, 1.], r'importance\[1\]: a list of 5'),
                'point-before': ('/course.importance[1][0]', -3, r'course.importance\[1\]\[0\]: -3'),
                'course-other': ('/course.other', lambda _: [[0, 1.]], 'course.other: ')},
    'aggregation': {'index-large': ('.index', 9, 'search.index: 9'), 'index-text': ('.index', '0', "search.index: '0'"),
                    'gammas-of-another': ('.used_gammas.x', lambda _: dict(st=1., ts=1.), "used_gammas: 'x'"),
                    'point-empty': ('/course.layer3[1]', [], r'course.layer3\[1\]: a list of 0')}}
"""And with the rest of it: under ``search``, or where the path begins with a slash beside it."""
OPTIMISERS = dict(process='optimiser', aggregation='optimizer')


def search_of(kind, folder, **options):
    if kind == 'process':
        return search_cfg(folder, epochs=2, **options)
    hooks = [dict(type='mmkd.AggregationSearchHook', dataloader=loader('mmpretrain', 6))]
    return run_cfg(searching(), folder, 2, hooks, 4, **options)


@pytest.fixture(scope='module', params=OF_SEARCHES)
def search(request, tmp_path_factory):
    """A kind of search, its checkpoint after the first of two epochs, and the runner that has saved it."""
    folder = tmp_path_factory.mktemp(request.param)
    runner, _ = run(search_of(request.param, folder), lambda runner: runner.register_hook(Stop(epoch=1)))
    return request.param, open_checkpoint(folder / 'epoch_1.pth'), runner


def test_the_state_of_a_search_is_checked_before_it_goes_on(search):
    """All that may be wrong at once, on one runner: what is built for it is the same."""
    kind, checkpoint, runner = search
    top = f'mmkd.hooks.{kind}_search'
    hook, = (hook for hook in runner.hooks if isinstance(hook, StatefulHook))
    cases = {name: (f'.{OPTIMISERS[kind]}{path}', *others) for name, (path, *others) in OF_OPTIMISER.items()}
    for name, (path, value, message) in {**cases, **OF_SEARCHES[kind]}.items():
        where = f'{top}{path[1:]}' if path.startswith('/') else f'{top}.search{path}'
        content = changed(checkpoint, where.replace(f'{top}course', f'{top}.course'), value, False)
        hook.load_state_dict(content['mmkd']['hooks'][f'{kind}_search'])
        with pytest.raises(DistillationError) as caught:
            hook.before_train(runner)
        assert str(caught.value).startswith(f'{top}.'), name
        assert re.search(message, str(caught.value)), (name, str(caught.value))
    hook.load_state_dict(checkpoint['mmkd']['hooks'][f'{kind}_search'])
    hook.before_train(runner)


def test_a_search_with_a_state_that_does_not_fit_does_not_go_on(search, tmp_path):
    kind, checkpoint, _ = search
    path = f'mmkd.hooks.{kind}_search.search.{OPTIMISERS[kind]}.state.0.exp_avg'
    torch.save(changed(checkpoint, path, filled(math.inf), True), tmp_path / 'epoch_1.pth')
    with pytest.raises(DistillationError, match='exp_avg: .*infinity'):
        run(search_of(kind, tmp_path, resume=True))


def refusal(saved, path, value, redigest):
    """The message with which a changed checkpoint is refused; nothing of it has been loaded."""
    folder, checkpoint, runner = saved
    torch.save(changed(checkpoint, path, value, redigest), folder / 'tampered.pth')
    before = {name: tensor.clone() for name, tensor in [*runner.model.state_dict().items(),
                                                        *runner.model.distillation.state_dict().items()]}
    with pytest.raises(DistillationError) as caught:
        runner.resume(str(folder / 'tampered.pth'))
    after = {**runner.model.state_dict(), **runner.model.distillation.state_dict()}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert (runner.epoch, runner.iter) == (0, 0)
    return str(caught.value)


@pytest.mark.parametrize('name', MMKD)
def test_an_entry_of_mmkd_that_does_not_fit_is_named(name, saved):
    path, value, message = MMKD[name]
    assert_says(refusal(saved, path, value, True), message)


@pytest.mark.parametrize('name', UNNOTICED)
def test_a_value_of_mmkd_that_could_be_has_been_changed(name, saved):
    assert_says(refusal(saved, *UNNOTICED[name], False), 'mmkd: has been changed after it was saved')


@pytest.mark.parametrize('name', OTHERS)
def test_what_mmengine_keeps_is_checked_too(name, saved):
    path, value, message = OTHERS[name]
    assert_says(refusal(saved, path, value, False), message)


def assert_says(text, message):
    assert re.search(message, text), text


def test_a_checkpoint_that_is_no_dict_is_refused(saved):
    folder, _, runner = saved
    torch.save([1, 2], folder / 'tampered.pth')
    with pytest.raises(DistillationError, match='a list of 2 is no training checkpoint'):
        runner.resume(str(folder / 'tampered.pth'))


def test_a_section_of_version_2_is_gone_on_from(saved, tmp_path):
    _, checkpoint, _ = saved
    content = copy.deepcopy(checkpoint)
    section = content['mmkd']
    for name in ('position', 'validated', 'settings', 'digest'):
        del section[name]
    section.update(version=2, rng=section.pop('ranks')[0]['rng'])
    torch.save(content, tmp_path / 'epoch_1.pth')
    cfg = cfg_of(tmp_path, resume=True)
    cfg.train_cfg.max_epochs = 2
    _, losses = run(cfg)
    assert len(losses) == 2, 'one epoch of two'


def test_the_checkpoint_itself_is_gone_on_from(saved, tmp_path):
    _, checkpoint, _ = saved
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    cfg = cfg_of(tmp_path, resume=True)
    cfg.train_cfg.max_epochs = 2
    _, losses = run(cfg)
    assert len(losses) == 2, 'one epoch of two'
