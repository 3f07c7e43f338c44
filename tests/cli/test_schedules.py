"""The length and the schedule of a search that follow from those of its training."""
import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from mmkd_plugin.cli.methods import METHODS
from mmkd_plugin.cli.schedules import length_of, shortened_length, shortened_schedule
from mmkd_plugin.search.derive import reads_result
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError

WARMUP = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
STEPS = dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)


@pytest.mark.parametrize(('loop', 'length', 'short'), [
    (dict(max_epochs=12), ('max_epochs', 12), dict(max_epochs=3)), (dict(max_iters=80000), ('max_iters', 80000),
                                                                    dict(max_iters=20000)),
    (dict(max_epochs=2), ('max_epochs', 2), dict(max_epochs=1)), (None, ('max_iters', 1), dict(max_iters=1))],
    ids=['epochs', 'iterations', 'short', 'none'])
def test_a_search_takes_a_quarter(loop, length, short):
    cfg = dict(train_cfg=loop)
    assert length_of(cfg) == length
    assert shortened_length(cfg) == short


def test_the_schedule_keeps_its_course():
    assert shortened_schedule(dict(param_scheduler=[WARMUP, STEPS])) == [
        dict(WARMUP, end=125), dict(STEPS, end=3, milestones=[2, 2])]
    assert shortened_schedule(dict(param_scheduler=dict(type='CosineAnnealingLR', T_max=200, by_epoch=True))) == dict(
        type='CosineAnnealingLR', T_max=50, by_epoch=True, _delete_=True)
    assert shortened_schedule(dict(param_scheduler=None)) is None
    after = dict(type='CosineAnnealingLR', begin=1, end=2, T_max=1)
    assert shortened_schedule(dict(param_scheduler=[after])) == [after]


def course(scheduler, length):
    """The learning rate at each step."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1, momentum=.9)
    built = PARAM_SCHEDULERS.build(dict(scheduler, _scope_='mmengine'), default_args=dict(optimizer=optimiser))
    found = []
    for number in range(length):
        if number:
            optimiser.step()
            built.step()
        found.append(optimiser.param_groups[0]['lr'])
    return found


@pytest.mark.parametrize('scheduler', [
    dict(type='MultiStepLR', milestones=[40, 60]), dict(type='CosineAnnealingLR', T_max=80, begin=0, end=80),
    dict(type='CosineRestartLR', periods=[40, 40], restart_weights=[1., .5], eta_min=0.),
    dict(type='OneCycleLR', eta_max=.1, total_steps=80)], ids=lambda scheduler: scheduler['type'])
def test_the_rate_at_a_quarter_of_the_steps_is_that_of_the_training(scheduler):
    shortened, = shortened_schedule(dict(param_scheduler=[scheduler]))
    assert course(shortened, 20) == pytest.approx(course(scheduler, 80)[::4], abs=.02)


@pytest.mark.parametrize(('name', 'reads'), [('distpro', True), ('dfa', True), ('mgd-amp', False)])
def test_what_a_training_reads_of_its_search(name, reads):
    cfg = load_config(f'mmkd_plugin::demo/{name}_pspnet_r18w32-r18w8-d8_demo-64x128.py', 'config')
    assert reads_result(cfg) == reads
    if reads:
        key, value = ('process', 'x.json') if name == 'distpro' else ('aggregation', 'last')
        cfg.model.distillers[name][key] = value
        assert not reads_result(cfg)


def test_a_distpro_without_a_process_reads_none_and_a_search_without_a_distiller_is_an_error():
    cfg = load_config('mmkd_plugin::demo/distpro_pspnet_r18w32-r18w8-d8_demo-64x128.py', 'config')
    cfg.model.distillers.distpro.mode = 'equal'
    assert not reads_result(cfg)
    cfg.model.distillers.distpro = dict(type='mmkd.LogitsDistiller', pairs=['decode_head.conv_seg'])
    with pytest.raises(DistillationError, match='model.distillers: has none that can be searched'):
        reads_result(cfg)


def test_every_method_has_a_name_of_the_help():
    from mmkd_plugin.cli.main import METHOD
    option = METHOD(lambda: None).__click_params__[0]
    named = set(option.help.split(';')[0].split(', '))
    assert named == set(METHODS)
