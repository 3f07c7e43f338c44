"""One line beside the teacher: a pool for the task, its taps found; equal weights, or a search and its replay in one run."""
import json

import pytest
import torch
from distpro_runs import endless, interrupted
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from zoo import STUDENTS, build, classifier, distilled, retinanet, run, run_cfg, update_hook

from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.errors import DistillationError


def auto(**options):
    return dict(type='mmkd.AutoDistiller', **options)


POOLS = dict(
    mmpretrain=(['auto_kd', 'auto_dist', 'auto_mgd', 'auto'], 'head.fc', 'backbone.layer4@preact'),
    mmseg=(['auto_cwd', 'auto_kd', 'auto_mgd', 'auto'], 'decode_head.conv_seg', 'backbone.layer4@preact'),
    mmdet=(['auto_pkd', 'auto_mgd', 'auto'], 'neck[0]', 'backbone.layer4@preact'))


@pytest.mark.parametrize('scope', list(POOLS))
def test_the_pool_follows_from_the_task_and_its_taps_from_the_networks(scope):
    names, first, last = POOLS[scope]
    distillers = build(distilled(STUDENTS[scope](), auto=auto())).distillation.distillers
    assert list(distillers) == names
    assert distillers[names[0]].student_taps[0] == first
    assert distillers['auto_mgd'].student_taps == [f'backbone.layer{stage}@preact' for stage in (1, 2, 3, 4)]
    assert distillers['auto'].student_taps == [f'backbone.layer{stage}@preact' for stage in (2, 3, 4)]
    assert distillers['auto'].weighed == names[:-1]
    assert last in distillers['auto'].teacher_taps


def test_networks_of_other_depths_and_classes_have_what_they_share():
    teacher = classifier(16, num_classes=7)
    teacher['backbone'].update(num_stages=3, out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1))
    teacher['head']['in_channels'] = 64
    distillers = build(distilled(classifier(), teacher, auto=auto())).distillation.distillers
    assert list(distillers) == ['auto_mgd', 'auto']
    assert distillers['auto_mgd'].student_taps == [f'backbone.layer{stage}@preact' for stage in (1, 2, 3)]
    assert distillers['auto_mgd'].teacher_taps == [f'backbone.layer{stage}@preact' for stage in (1, 2, 3)]


def test_a_frozen_stage_is_left_out():
    student = retinanet()
    student['backbone'].update(frozen_stages=1)
    distillers = build(distilled(student, auto=auto())).distillation.distillers
    assert distillers['auto_mgd'].student_taps == [f'backbone.layer{stage}@preact' for stage in (2, 3, 4)]
    assert distillers['auto_mgd'].teacher_taps == [f'backbone.layer{stage}@preact' for stage in (2, 3, 4)]


def auto_cfg(folder, length=20, others=None, **options):
    hooks = [update_hook('mmpretrain')] if 'mgd' in options['pool'] else []
    cfg = run_cfg(distilled(classifier(), auto=auto(**options)), folder, hooks=hooks, **(others or {}))
    cfg.experiment_name = f'auto in {folder}'
    cfg = endless(cfg)
    cfg.train_cfg.max_iters = length
    cfg.default_hooks.checkpoint.interval = length
    return cfg


class Weights(Hook):
    """The weights of every iteration."""

    def __init__(self):
        self.modes, self.weights, self.strength, self.scales = [], [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        importance = runner.model.distillation.auto.importance
        self.modes.append(importance.mode)
        self.weights.append(importance.at(runner.iter).tolist())
        self.strength.append(runner.model.distillation.auto.scale_at(runner.iter))
        self.scales.append(runner.model.distillation.auto.member_scales())


def test_all_weigh_the_same_to_the_end_and_nothing_is_searched(tmp_path):
    weights = Weights()
    run(auto_cfg(tmp_path, length=6, pool=['kd', 'mgd', 'hcl']), before=lambda runner: runner.register_hook(weights))
    assert weights.modes == ['equal'] * 6
    members = len(weights.weights[0])
    assert members > 3
    assert weights.weights == [[1.] * members] * 6
    assert weights.strength == [float(members)] * 6
    assert not (tmp_path / 'process.json').exists()


def test_a_run_searches_in_its_first_part_and_replays_what_it_has_found_for_the_rest(tmp_path):
    weights = Weights()
    run(auto_cfg(tmp_path, searched=.3, pool=['kd', 'mgd']), before=lambda runner: runner.register_hook(weights))
    assert weights.modes == ['search'] * 6 + ['process'] * 14
    assert weights.strength == [2.] * 20  # the sum of two weights is about 1: each loss pulls about as hard as the task's
    content = json.loads((tmp_path / 'process.json').read_text())
    assert [member['distiller'] for member in content['members']] == ['auto_kd', 'auto_mgd']
    assert (content['length'], content['total'], len(content['scales'])) == (6, None, 2)
    assert content['importance'][0] == [1, 1]
    assert content['importance'][-1] != [1, 1]
    # The replay is the search's course, stretched over the 14 iterations that are left.
    course = torch.tensor(content['importance'])
    for iteration in range(14):
        place = iteration * 5 / 13
        left = min(int(place), 4)
        expected = course[left] + (course[left + 1] - course[left]) * (place - left)
        assert weights.weights[6 + iteration] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_replay_of_a_search_in_the_run_finds_the_scales_anew(tmp_path):
    weights = Weights()
    run(auto_cfg(tmp_path, searched=.3, pool=['kd', 'dist']), before=lambda runner: runner.register_hook(weights))
    assert weights.scales[:6] == [weights.scales[0]] * 6  # found in the first tenth of the search
    for before, after in zip(weights.scales[5:], weights.scales[6:]):
        assert all(ours != theirs for ours, theirs in zip(before, after))
    assert json.loads((tmp_path / 'process.json').read_text())['scales'] == weights.scales[0]


def test_online_the_weights_move_to_the_end(tmp_path):
    weights = Weights()
    run(auto_cfg(tmp_path, length=8, online=True, pool=['kd', 'hcl'], total=3.0),
        before=lambda runner: runner.register_hook(weights))
    assert weights.modes == ['search'] * 8
    assert weights.weights[-1] != weights.weights[-2]
    content = json.loads((tmp_path / 'process.json').read_text())
    assert (content['length'], content['total']) == (8, 3.)


def test_what_a_search_has_left_in_its_place_is_replayed(tmp_path):
    search = derive_search(auto_cfg(tmp_path, length=8, pool=['kd', 'dist'], others=dict(search=dict(
        hook=dict(validation='next_batch')))))
    assert search.custom_hooks[0].type == 'mmkd.ProcessSearchHook'
    assert search.model.distillers.auto.mode == 'search'
    run(search)
    MessageHub._instance_dict.clear()
    weights = Weights()
    run(auto_cfg(tmp_path, length=4, pool=['kd', 'dist']), before=lambda runner: runner.register_hook(weights))
    assert weights.modes == ['process'] * 4
    assert not (tmp_path / 'process.json').exists()


@pytest.mark.slow
@pytest.mark.parametrize('iteration', [3, 6, 9], ids=['in the search', 'at its end', 'in the replay'])
def test_an_interrupted_run_is_the_uninterrupted_one(tmp_path, iteration):
    def cfg(folder, **options):
        made = auto_cfg(folder, length=12, searched=.5, pool=['kd', 'mgd'], others=options)
        made.default_hooks.checkpoint.interval = 3  # the step before a checkpoint is not judged
        return made

    whole, resumed, losses, both = interrupted(cfg, tmp_path, iteration)
    assert both == losses
    assert (tmp_path / 'whole/process.json').read_bytes() == (tmp_path / 'half/process.json').read_bytes()


@pytest.mark.parametrize(('options', 'path', 'said'), [
    (dict(pool=['kd', 'pkd']), 'pool', 'is no loss for classification that these networks have'),
    (dict(every=2), 'every', 'A pool says itself when and how strongly'), (dict(task='depth'), 'task', 'Accepted: auto, '),
    (dict(online=True, process='x.json'), 'process', 'one of the two'),
    (dict(online=True, searched=.2), 'searched', 'online=False'),
    (dict(process='none.json'), 'process', 'was not found')])
def test_what_does_not_fit_is_one_error_with_its_key(options, path, said):
    with pytest.raises(DistillationError) as error:
        build(distilled(classifier(), auto=auto(**options)))
    assert str(error.value).startswith(f'model.distillers.auto.{path}: ')
    assert said in str(error.value)


def test_several_teachers_are_refused():
    cfg = distilled(classifier(), auto=auto())
    cfg['teachers'] = dict(big=cfg.pop('teacher'), other=dict(config=classifier(8), allow_random_weights=True))
    with pytest.raises(DistillationError, match='^model.distillers.auto.type: .*takes one teacher'):
        build(cfg)
