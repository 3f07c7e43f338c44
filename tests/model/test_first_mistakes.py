"""What a new user gets wrong in the first hour: each is one error that says what to do, or works."""
import pytest
import torch
from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from zoo import classifier, distilled, loader, mgd, pspnet, retinanet, run, run_cfg, update_hook

import mmkd_plugin
from mmkd_plugin.mgd import MatchingUpdateHook
from mmkd_plugin.model.plain import needs_package
from mmkd_plugin.preflight import check_config
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError
from mmkd_plugin.utils.launch import check_types

L2 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'])


def built(model):
    init_default_scope(model['student'].get('_scope_', 'mmpretrain'))
    return MODELS.build(model)


@pytest.fixture
def child(tmp_path):
    """Reads a config with these lines from a folder of its own."""
    def read(*lines):
        (tmp_path / 'child.py').write_text('\n'.join(lines))
        return Config.fromfile(tmp_path / 'child.py')
    return read


BLOCK = [
    "custom_imports = dict(imports='mmkd_plugin')",
    "model = dict(_delete_=True, type='mmkd.DistilledModel', student={{_base_.model}}, teacher=dict(config='t.py'),",
    "             distillers=dict(mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=['neck[0]'])))"]
"""The block of the README."""
WITH_HOOKS = {'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py': ['EMAHook', 'PipelineSwitchHook'],
              'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py': ['YOLOXModeSwitchHook', 'SyncNormHook', 'EMAHook']}


@pytest.mark.parametrize('base', list(WITH_HOOKS))
def test_the_hooks_of_a_stock_config_stay_or_are_named(base, child, tmp_path):
    assert [hook['type'] for hook in child(f"_base_ = '{base}'", *BLOCK).custom_hooks] == WITH_HOOKS[base]
    hook = "dict(type='mmkd.MatchingUpdateHook')"
    kept = child(f"_base_ = '{base}'", *BLOCK, f'custom_hooks = [*_base_.custom_hooks, {hook}]')
    assert [hook['type'] for hook in kept.custom_hooks] == [*WITH_HOOKS[base], 'mmkd.MatchingUpdateHook']
    child(f"_base_ = '{base}'", *BLOCK, f'custom_hooks = [{hook}]')
    lost = [finding for finding in check_config(tmp_path / 'child.py').findings if finding.check == 'hooks-lost']
    assert [finding.what.split(' has a ')[1].split(',')[0] for finding in lost] == WITH_HOOKS[base]


def test_a_base_without_the_hooks_that_are_asked_of_it_is_named(child, tmp_path):
    (tmp_path / 'base.py').write_text("model = dict(type='ResNet')")
    with pytest.raises(AttributeError):
        child("_base_ = 'base.py'", 'custom_hooks = [*_base_.custom_hooks]')
    with pytest.raises(DistillationError, match='^config: .* The base config has no custom_hooks: leave _base_.custom_hooks '
                       'out'):
        load_config(str(tmp_path / 'child.py'), 'config')


def test_a_config_of_this_package_is_a_base(child):
    name = 'demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py'
    cfg = child(f"_base_ = 'mmkd_plugin::{name}'", 'student = {{_base_.model.student}}')
    assert cfg.model.type == 'mmkd.DistilledModel'
    assert cfg.student == cfg.model.student
    with pytest.raises(DistillationError, match=f"_base_: 'mmkd_plugin::x{name}' was not found .* Did you mean '.*{name}'"):
        child(f"_base_ = 'mmkd_plugin::x{name}'")


def test_a_forgotten_delete_is_named():
    merged = {**classifier(), **distilled(classifier(), l2=L2)}
    with pytest.raises(DistillationError, match=r'model\.(backbone|neck|head): is a key of the student|_delete_=True'):
        built(merged)


def test_a_forgotten_name_of_a_distiller_is_named():
    message = r'model.distillers: .* is a distiller without a name. Accepted: .*<name>=dict\('
    with pytest.raises(DistillationError, match=message):
        built({**distilled(classifier()), 'distillers': dict(L2)})


def test_a_student_without_a_type_is_one_error(tmp_path):
    student = {key: value for key, value in classifier().items() if key != 'type'}
    with pytest.raises(DistillationError, match='model.student: .* Accepted: a dict with a type'):
        Runner.from_cfg(run_cfg({**distilled(classifier(), l2=L2), 'student': student}, tmp_path))


@pytest.mark.parametrize(('kind', 'meant'), [
    ('mmkd.MGD', 'MatchingGuidedDistiller'), ('mmkd.DFA', 'FeatureAggregationDistiller'), ('mmkd.KD', 'LogitsDistiller'),
    ('mmkd.MGDDistiller', 'MatchingGuidedDistiller'), ('mmkd.LogitDistiller', 'LogitsDistiller')])
def test_an_unknown_distiller_suggests_distillers(kind, meant):
    cfg = dict(model=distilled(classifier(), one=dict(L2, type=kind)))
    message = f"model.distillers.one.type: '{kind}' is not known. Did you mean 'mmkd.{meant}'"
    with pytest.raises(DistillationError, match=message):
        check_types(cfg)
    with pytest.raises(DistillationError, match=f"Did you mean 'mmkd.{meant}'"):
        built(cfg['model']).attach_distillation()


def test_an_unknown_hook_suggests_hooks():
    with pytest.raises(DistillationError, match=r"custom_hooks\[0\].type: .* Accepted: mmkd.\w+Hook, ") as found:
        check_types(dict(custom_hooks=[dict(type='mmkd.Nothing')]))
    assert 'Dataset' not in str(found.value)


def test_a_distilled_checkpoint_is_not_resumed_without_distillation(tmp_path):
    run(run_cfg(distilled(classifier(), l2=L2), tmp_path / 'run'))
    cfg = run_cfg(classifier(), tmp_path / 'run', epochs=2)
    cfg.resume = True
    message = "resume: '.*epoch_1.pth' is of a distilled run, this one is not .* load_from"
    with pytest.raises(DistillationError, match=message):
        run(cfg)
    cfg.resume, cfg.load_from = False, str(tmp_path / 'run/epoch_1.pth')
    run(cfg)


def test_mmdets_inference_takes_the_plain_config(tmp_path):
    cfg = run_cfg(distilled(retinanet(), l2=L2), tmp_path, hooks=[update_hook('mmdet')])
    cfg.test_dataloader = loader('mmdet')
    cfg.search = dict()
    cfg.dump(tmp_path / 'distilled.py')
    plain = mmkd_plugin.plain_config(tmp_path / 'distilled.py')
    assert (plain.model.type, plain.custom_hooks, plain.get('search')) == ('RetinaNet', [], None)
    state = built(cfg.model.to_dict()).state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=('a', 'b', 'c', 'd')))), tmp_path / 'x.pth')
    detector = init_detector(plain, str(tmp_path / 'x.pth'), palette='random', device='cpu')
    assert type(detector).__name__ == 'RetinaNet'
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())


def test_a_config_needs_this_package_for_its_types_and_not_for_its_paths():
    cfg = Config(dict(model=dict(type='ResNet'), data_root='/data/mmkd.1'))
    assert not needs_package(cfg)
    cfg.train_dataloader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type='mmkd.SplitDataset')))
    assert needs_package(cfg)


def test_a_distiller_without_its_hook_gets_it(tmp_path, monkeypatch):
    cfg = run_cfg(distilled(pspnet(), mgd=mgd()), tmp_path, epochs=1)
    cfg.test_dataloader, cfg.test_cfg = loader('mmseg', 4), dict()
    cfg.test_evaluator = dict(type='DumpResults', out_file_path='out.pkl', _scope_='mmengine')
    said = []
    monkeypatch.setattr('mmkd_plugin.model.runner.print_log', lambda text, *args, **kwargs: said.append(text))
    runner, losses = run(cfg)
    hook, = (hook for hook in runner.hooks if isinstance(hook, MatchingUpdateHook))
    assert hook.options.interval == 'auto'
    assert [done for done in range(1, 4) if hook.due(done)] == [1, 2, 3]  # four iterations
    assert hook._num_images == 2  # a batch: an update is not to cost more than the training up to the next
    assert all('mgd.loss_layer4' in each for each in losses)
    assert 'model.distillers.mgd: custom_hooks has no mmkd.MatchingUpdateHook for it; added: ' in '\n'.join(said)


def test_a_hook_for_another_distiller_is_not_its_hook(tmp_path):
    cfg = run_cfg(distilled(pspnet(), one=mgd(), two=mgd()), tmp_path, hooks=[update_hook('mmseg', distillers=['one'])])
    cfg.test_dataloader, cfg.test_cfg = loader('mmseg', 4), dict()
    cfg.test_evaluator = dict(type='DumpResults', out_file_path='out.pkl', _scope_='mmengine')
    runner, _ = run(cfg)
    assert [hook.options.distillers for hook in runner.hooks if isinstance(hook, MatchingUpdateHook)] == [['one'], ['two']]


def test_no_hook_is_added_for_a_distiller_that_does_not_act(tmp_path):
    runner, _ = run(run_cfg(distilled(pspnet(), mgd=mgd(loss_weight=0)), tmp_path))
    assert not [hook for hook in runner.hooks if isinstance(hook, MatchingUpdateHook)]
