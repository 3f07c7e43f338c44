"""``compile`` of a run beside distillation, with a backend that compiles nothing: what counts is whether taps are seen."""
import pytest
import torch
from zoo import classifier, dfa, distilled, run, run_cfg

from mmkd_plugin import DistillationError


def small():
    model = classifier()
    model['backbone'] = dict(type='mmkd.CIFARResNet', depth=8)
    model['head']['in_channels'] = 64
    return model


def losses_of(model, folder, compiled, **options):
    cfg = run_cfg(model, folder, 2, **options)
    cfg.compile = dict(backend='eager') if compiled else False
    _, losses = run(cfg)
    return losses


@pytest.mark.slow
def test_a_compiled_student_is_distilled_also_by_what_begins_later(tmp_path):
    model = distilled(small(), small(), l2=dict(
        type='mmkd.FeatureDistiller', pairs=['backbone.layer2', 'backbone.layer3@preact'], begin=2))
    torch._dynamo.reset()
    plain, compiled = (losses_of(model, tmp_path / str(compiled), compiled) for compiled in (False, True))
    assert torch._dynamo.utils.counters['frames']['ok'] > 20
    assert [list(losses) for losses in compiled] == [list(losses) for losses in plain]
    assert len(plain[2]) == 4
    for ours, theirs in zip(compiled, plain):
        assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-4)


def test_a_search_that_changes_the_forward_cannot_be_compiled(tmp_path):
    model = distilled(small(), small(), dfa=dfa(pairs=['backbone.layer1', 'backbone.layer2', 'backbone.layer3']))
    with pytest.raises(DistillationError, match=r'(?s)^compile: .*model.distillers.dfa, which changes the forward.*False'):
        losses_of(model, tmp_path, True)
