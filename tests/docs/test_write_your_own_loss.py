"""The loss in docs/examples/huber_loss.py, shown in docs/losses.md: ten lines of a user's, used and named like any other."""
import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from zoo import STUDENTS, batch, build, classifier, dfa, distilled, pspnet

from mmkd_plugin.registry import MODELS
from mmkd_plugin.utils.errors import DistillationError

DOCS = Path(__file__).resolve().parents[2] / 'docs'
EXAMPLE = DOCS / 'examples/huber_loss.py'


@pytest.fixture(autouse=True)
def users_file(tmp_path, monkeypatch):
    """Imported as a config does that names it."""
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS.module_dict))  # no other test finds it there
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    path = tmp_path / 'config.py'
    path.write_text("custom_imports = dict(imports=['mmkd_plugin', 'huber_loss'])\n")
    Config.fromfile(path)
    yield
    sys.modules.pop('huber_loss')


def hint(loss, **options):
    return dict(hint=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss=loss, **options))


def test_the_page_shows_the_file_and_it_is_short():
    code = re.search(r'## One of your own\n.*?```python\n(.*?)\n```', (DOCS / 'losses.md').read_text(), re.DOTALL)[1]
    assert code == EXAMPLE.read_text().rstrip()
    assert sum(bool(line) for line in code.splitlines()) <= 10


@pytest.mark.parametrize('scope', sorted(STUDENTS))
def test_it_distils_a_student_of_every_codebase(scope):
    model = build(distilled(STUDENTS[scope](), **hint('mmkd.HuberLoss', mask_padding=True))).train()
    loss = model(**model.data_preprocessor(batch(scope), True), mode='loss')['hint.loss_layer4']
    loss.backward()
    assert loss > 0
    assert model.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


def test_it_is_a_distance_of_dfa_too():
    model = build(distilled(classifier(), classifier(16, depth=34), dfa=dfa(
        'distill', ['backbone.layer4'], aggregation='last', distance='mmkd.HuberLoss'))).train()
    assert type(model.distillation.dfa.losses[0]) is MODELS.get('HuberLoss')
    losses = model(**model.data_preprocessor(batch('mmpretrain'), True), mode='loss')
    assert losses['dfa.loss_layer4'] > 0


def test_its_value_is_hubers():
    loss, (ours, theirs) = MODELS.get('HuberLoss')(), torch.randn(2, 2, 3, 4, 4) * 3
    assert torch.equal(loss(ours, theirs), F.huber_loss(ours, theirs))


@pytest.mark.parametrize(('distillers', 'path'), [
    (hint('mmkd.HubrLoss'), 'hint.loss'), (hint(dict(type='mmkd.HubrLoss')), 'hint.loss.type'),
    (dict(dfa=dfa('distill', ['backbone.layer4'], aggregation='last', distance='mmkd.HubrLoss')), 'dfa.distance')],
    ids=['name', 'dict', 'dfa'])
def test_misspelt_it_is_named_in_the_error(distillers, path):
    message = rf"model.distillers.{path}: 'mmkd.HubrLoss' is not known. Did you mean 'mmkd.HuberLoss'"
    with pytest.raises(DistillationError, match=message):
        build(distilled(pspnet(), **distillers))
