"""What the tests of nonsense in configs share: small distillers, a run that must not begin, and what an error looks like."""
import pytest
from mmengine.hooks import Hook
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.utils.errors import DistillationError

LAYERS = ['backbone.layer3', 'backbone.layer4']
L2 = dict(type='mmkd.FeatureDistiller', pairs=LAYERS)


def kd(**options):
    return dict(type='mmkd.LogitsDistiller', pairs=['head.fc'], **options)


def distpro(mode='equal', **options):
    return dict(type='mmkd.DistProDistiller', levels=LAYERS, transforms='conv1', mode=mode, **options)


def ifvd(**options):
    return dict(type='mmkd.IFVDDistiller', **options)


def caught(call, path, *fragments):
    """The call raises one error of ours, of one line, whose message has the key and all fragments."""
    with pytest.raises(DistillationError) as found:
        call()
    message = str(found.value)
    assert message.startswith(f'{path}: '), message
    for fragment in fragments:
        assert fragment in message, message
    assert len(message.splitlines()) == 1
    assert len(message) < 1500
    return found.value


def ids(cases):
    """A name for each case that is the same in every process: its place."""
    return [f'{number}-{case[0] if isinstance(case[0], str) else "case"}' for number, case in enumerate(cases)]


def started(tmp_path, model=None, **others):
    randomness = others.pop('randomness', None)
    cfg = run_cfg(model or distilled(classifier(), one=L2), tmp_path, length=4, **others)
    if randomness is not None:
        cfg.randomness = randomness

    def start():
        run(cfg, before=lambda runner: runner.register_hook(NoIteration()))
    return cfg, start


class NoIteration(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise AssertionError('training has begun')
