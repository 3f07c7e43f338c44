"""Mistakes that the fuzzing suite has found: each is one error that says what to do, before anything is trained."""
import math

import numpy as np
import pytest
import torch
from distpro_runs import distpro
from zoo import build, classifier, distilled, loader, mgd, pspnet, run, run_cfg, update_hook

from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.search.artefact import parsed
from mmkd_plugin.search.derive import derive_search
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import check_text
from mmkd_plugin.utils.records import Array


def refusal(call, *arguments, **options):
    with pytest.raises(DistillationError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize('kind', [27, ('mmkd.MatchingGuidedDistiller',), [], 1.5, '.svg', ''],
                         ids=['number', 'tuple', 'list', 'float', 'no name', 'empty'])
def test_what_is_no_distiller_is_told_which_there_are(kind):
    message = refusal(build, distilled(classifier(), mgd=dict(mgd(), type=kind)))
    assert 'model.distillers.mgd.type' in message
    assert 'mmkd.MatchingGuidedDistiller' in message


@pytest.mark.parametrize(('tap', 'advice'), [
    ('backbone.layer4[7]', 'Leave the index out'), ('backbone', 'e.g. backbone[0]')], ids=['index', 'tuple'])
def test_a_tap_that_is_read_wrongly_says_how_to_write_it(tap, advice):
    assert advice in refusal(build, distilled(pspnet(), mgd=mgd((tap, 'backbone.layer4'))))


def test_a_student_that_normalises_other_channels_than_its_teacher_is_refused():
    student = classifier()
    student['data_preprocessor'].update(mean=[120.], std=[60.])
    build(distilled(student))
    teacher = classifier(16)
    cfg = distilled(classifier(), teacher)
    model = build(cfg, attach=False)
    model.data_preprocessor.mean = torch.zeros(2, 1, 1)
    assert 'data_preprocessor' in refusal(model.attach_distillation)


def searched(**changes):
    cfg = run_cfg(distilled(classifier(), distpro=distpro(mode='process')), 'unused')
    cfg.search = dict(split=None, hook=dict(dataloader=loader('mmpretrain', 5)), **changes)
    return cfg


@pytest.mark.parametrize('key', ['train_cfg', 'train_dataloader', 'default_hooks', 'optim_wrapper'])
@pytest.mark.parametrize('value', [5, 'x', [1], True], ids=['number', 'text', 'list', 'truth'])
def test_what_a_search_puts_in_place_of_a_dict_is_one(key, value):
    assert f'search.config.{key}' in refusal(derive_search, searched(config={key: value}))


def test_a_checkpoint_hook_without_a_number_is_refused_before_a_search():
    cfg = searched()
    cfg.default_hooks.update(checkpoint=dict(type='CheckpointHook', interval='x'))
    assert 'default_hooks.checkpoint.interval' in refusal(derive_search, cfg)


def test_what_the_training_after_a_search_refuses_is_refused_before_the_search():
    cfg = searched()
    derive_search(cfg)
    cfg.model.distillers.distpro.length = 0
    assert 'model.distillers.distpro.length' in refusal(derive_search, cfg)


@pytest.mark.parametrize(('value', 'key'), [
    (np.ones(2), 'model.x'), ({"it's": 1}, 'model.x'), ({'a\nb': 1}, 'model.x'),
    ({None: 1}, 'model.x'), ({'class': 1}, 'model.x'), ([{'a': np.ones(3)}], 'model.x[0].a')],
    ids=['array', 'quote', 'line end', 'None', 'word', 'nested'])
def test_a_config_holds_what_its_text_can_hold(value, key):
    message = refusal(check_text, dict(model=dict(x=value)))
    assert message.startswith(f'{key}: ')
    assert 'Accepted' in message


def test_a_config_holds_types_and_functions():
    check_text(dict(model=dict(type=torch.nn.Linear, act=torch.relu, rate=math.nan, name='it\'s', **{'a-b': 1, 'a.b': 2})))


def test_a_hook_does_not_update_a_distiller_twice():
    assert 'MatchingUpdateHook.distillers' in refusal(MatchingUpdateHook, distillers=['mgd', 'mgd'])


def test_an_empty_loader_of_the_matching_hook_is_no_loader(tmp_path):
    cfg = run_cfg(distilled(classifier()), tmp_path, hooks=[update_hook('mmpretrain', dataloader={})])
    assert 'MatchingUpdateHook.dataloader' in refusal(run, cfg)


DAMAGE = dict(nan=lambda value: value * math.nan, infinity=lambda value: value + math.inf,
              complex=lambda value: value.to(torch.complex64), truth=lambda value: value > 0,
              bytes=lambda value: value.to(torch.int8))


@pytest.mark.parametrize('damage', list(DAMAGE))
def test_a_distilled_student_begins_with_finite_weights_of_its_kind(tmp_path, damage):
    model = distilled(classifier())
    state = build(model, attach=False).state_dict()
    name = 'backbone.layer1.0.bn1.running_var'
    state[name] = DAMAGE[damage](state[name])
    torch.save(dict(state_dict=state), tmp_path / 'given.pth')
    cfg = run_cfg(model, tmp_path / 'run', hooks=[update_hook('mmpretrain')], load_from=str(tmp_path / 'given.pth'))
    message = refusal(run, cfg)
    assert message.startswith('load_from: ')
    assert name in message


def test_a_whole_checkpoint_to_begin_with_is_taken(tmp_path):
    model = distilled(classifier())
    state = {name: value.half() if value.is_floating_point() else value
             for name, value in build(model, attach=False).state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'given.pth')
    runner, _ = run(run_cfg(model, tmp_path / 'run', hooks=[update_hook('mmpretrain')],
                            load_from=str(tmp_path / 'given.pth')))
    assert runner.iter == 4


def test_a_tensor_of_a_checkpoint_has_a_place_for_each_number():
    Array().check(torch.ones(2, 3).t())
    assert 'share a place' in refusal(Array().check, torch.ones(1).expand(3))


def test_numbers_of_eight_bits_are_no_weights():
    assert 'Accepted' in refusal(Array().check, torch.ones(2).to(torch.float8_e4m3fn))


@pytest.mark.parametrize('number', ['1e999', '-1e999', 'NaN', 'Infinity'])
def test_a_result_of_a_search_holds_finite_numbers_also_in_its_notes(tmp_path, number):
    (tmp_path / 'x.json').write_text(f'{{"meta": {{"seed": {number}}}}}')
    assert f'holds {number}' in refusal(parsed, tmp_path / 'x.json', 'x.json')


@pytest.mark.parametrize('content', [5, 'x', None, [1], 1.5], ids=['number', 'text', 'none', 'list', 'float'])
def test_what_holds_no_weights_is_nothing_to_begin_with(tmp_path, content):
    torch.save(content, tmp_path / 'given.pth')
    cfg = run_cfg(distilled(classifier()), tmp_path / 'run', hooks=[update_hook('mmpretrain')],
                  load_from=str(tmp_path / 'given.pth'))
    assert refusal(run, cfg).startswith('load_from: ')
