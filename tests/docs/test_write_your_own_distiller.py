"""The page "write your own distiller" holds: its example distils, is searched over, resumes, and is named in errors."""
import importlib.util
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from zoo import STUDENTS, batch, build, distilled, loader, retinanet, run, run_cfg

from mmkd_plugin.distpro import read_process
from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError

DOCS = Path(__file__).resolve().parents[2] / 'docs'
EXAMPLE = DOCS / 'examples/attention_transfer.py'


@pytest.fixture(scope='module', autouse=True)
def example():
    """The user's file, imported as a config would."""
    spec = importlib.util.spec_from_file_location('attention_transfer', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    MODELS._module_dict.pop('AttentionTransferDistiller')
    MODELS._module_dict.pop('AttentionLoss')


def at(**options):
    pairs = ['backbone.layer3', 'backbone.layer4']
    return dict(at=dict(type='mmkd.AttentionTransferDistiller', **{'pairs': pairs, **options}))


def test_the_page_shows_the_file_and_it_is_short():
    code = re.search(r'```python\n(.*?)\n```', (DOCS / 'write-your-own-distiller.md').read_text(), re.DOTALL)[1]
    assert code == EXAMPLE.read_text().rstrip()
    assert len(code.splitlines()) <= 45


def test_the_loss_is_attention_transfer_by_hand(example):
    student, teacher = torch.randn(2, 4, 6, 6), torch.randn(2, 7, 6, 6)
    ours, theirs = (F.normalize(feature.square().mean(1).view(2, -1)) for feature in (student, teacher))
    torch.testing.assert_close(example.AttentionLoss()(student, teacher), (ours - theirs).square().mean())


@pytest.mark.parametrize('scope', sorted(STUDENTS))
def test_it_distils_a_student_of_every_codebase(scope):
    model = build(distilled(STUDENTS[scope](), **at())).train()
    losses = model(**model.data_preprocessor(batch(scope), True), mode='loss')
    total = losses['at.loss_layer3'] + losses['at.loss_layer4']
    total.backward()
    assert total > 0
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


def test_padding_has_no_part_in_it():
    model = build(distilled(retinanet(), **at(pairs=['backbone.layer3']))).eval()
    data = batch('mmdet')
    for sample in data['data_samples']:
        sample.set_metainfo(dict(img_shape=(64, 32), batch_input_shape=(64, 64), pad_shape=(64, 64)))
    from mmkd_plugin.distiller import Batch
    feature, other = torch.randn(2, 32, 4, 4), torch.randn(2, 64, 4, 4)
    changed = feature.clone()
    changed[..., 2:] = 50
    given = Batch(torch.zeros(2, 3, 64, 64), data['data_samples'], 0)
    distiller, tap = model.distillation.at, 'backbone.layer3'
    assert torch.equal(distiller({tap: feature}, {tap: other}, given)['loss_layer3'],
                       distiller({tap: changed}, {tap: other}, given)['loss_layer3'])


def test_it_resumes_bit_equal(tmp_path):
    def cfg(**options):
        return run_cfg(distilled(STUDENTS['mmpretrain'](), **at(loss_scale='auto', calibration_iters=6)), tmp_path, epochs=2,
                       **options)

    _, whole = run(cfg())
    MessageHub._instance_dict.clear()
    _, rest = run(cfg(load_from=f'{tmp_path}/epoch_1.pth', resume=True))
    assert rest == whole[4:]
    assert all('at.loss_layer3' in losses for losses in whole)


def test_distpro_searches_over_it_and_the_process_is_replayed(tmp_path):
    def distpro(mode, **options):
        return dict(distpro=dict(type='mmkd.DistProDistiller', levels=['backbone.layer3', 'backbone.layer4'], mode=mode,
                                 distance='attention', transforms='conv1', **options))

    hook = dict(type='mmkd.ProcessSearchHook', dataloader=loader('mmpretrain', 5))
    student = STUDENTS['mmpretrain']()
    run(run_cfg(distilled(student, **distpro('search'), **at()), tmp_path / 'search', hooks=[hook]))
    process = read_process(tmp_path / 'search/process.json')
    assert (process.importance[0] == 1).all()
    assert (process.importance[-1] != 1).all(), 'every pathway has moved'
    _, losses = run(run_cfg(distilled(student, **distpro('process')), tmp_path))  # reads <work dir>/search/process.json
    assert all(entry['distpro.loss_pathways'] > 0 for entry in losses)


@pytest.mark.parametrize(('options', 'message'), [
    (dict(power=-1), r'model.distillers.at.power: -1. Accepted: a number > 0'),
    (dict(power='2'), r"model.distillers.at.power: '2'"),
    (dict(powr=2), r"model.distillers.at.powr: 'powr' is no key here. Did you mean 'power'\?"),
    (dict(mask_padding='no'), 'model.distillers.at.mask_padding'),
    (dict(pairs=['backbone.layr3']), "'backbone.layr3' is no module of the student.*backbone.layer3")])
def test_its_options_show_up_in_error_messages(options, message):
    with pytest.raises(DistillationError, match=message):
        build(distilled(STUDENTS['mmpretrain'](), **at(**options)))
