"""A run that is resumed with other options says which, once; one that is not says nothing."""
import shutil

import pytest
import torch
from zoo import classifier, distilled, run, run_cfg

from mmkd_plugin.model.resume import Section, changed_settings
from mmkd_plugin.utils.checkpoint_files import open_checkpoint

MODEL = distilled(classifier(4), classifier(4), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], loss='l2'))
FORMAT = dict(type='mmkd.ChannelsLastHook', mode='off')


def cfg(folder, hooks=(FORMAT,), runtime=None, resume=False, **options):
    """A run of two epochs of two iterations; ``options`` are the distiller's."""
    found = run_cfg(MODEL, folder, 2, length=4, hooks=hooks, resume=resume)
    found.model.distillers.l2.update(options)
    if runtime is not None:
        found.model.teacher.runtime = runtime
    return found


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The checkpoint of the first of two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    run(cfg(folder))
    return folder / 'epoch_1.pth'


@pytest.fixture
def begun(trained, tmp_path):
    """The folder of a run that ended after its first epoch."""
    path = shutil.copy(trained, tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return tmp_path


def warnings_of(config):
    """What a run warns of about changed options, and its losses."""
    said = []

    def listen(runner):
        log = runner.logger.log
        runner.logger.log = lambda level, text, *args: (said.append((level, text)), log(level, text, *args))

    _, losses = run(config, before=listen)
    return [text for level, text in said if 'options have changed' in str(text) and level == 30], losses


CHANGES = [
    (dict(every=2), ['model.distillers.l2.every is 2, it was 1']),
    (dict(fraction=.5, loss_weight=3), ['model.distillers.l2.loss_weight is 3, it was 1',
                                        'model.distillers.l2.fraction is 0.5, it was 1']),
    (dict(loss=dict(type='mmkd.L2Loss', normalise=True)),
     ["model.distillers.l2.loss is dict(normalise=True, type='mmkd.L2Loss'), it was 'l2'"]),
    (dict(runtime=dict(fold_bn=True)), ["model.teacher.runtime is dict(fold_bn=True), it was 'plain'"]),
    (dict(hooks=[dict(FORMAT, mode='auto')]), ["ChannelsLastHook.mode is 'auto', it was 'off'"]),
    (dict(hooks=[]), ['ChannelsLastHook is gone'])]


@pytest.mark.parametrize(('options', 'changes'), CHANGES, ids=['every', 'two', 'loss', 'runtime', 'format', 'hook'])
def test_what_has_changed_is_said_in_one_line_with_both_values(options, changes, begun):
    said, losses = warnings_of(cfg(begun, resume=True, **options))
    assert len(said) == 1
    assert f'options have changed: {"; ".join(changes)}. The run goes on' in said[0]
    assert len(losses) == 2


def test_the_same_options_written_otherwise_are_no_change(begun):
    said, losses = warnings_of(cfg(begun, resume=True, every=1, loss_weight=1.0, fraction=1, runtime='plain'))
    assert said == []
    assert len(losses) == 2


def test_a_checkpoint_of_a_version_that_did_not_keep_options_is_gone_on_from(begun):
    path = begun / 'epoch_1.pth'
    content = open_checkpoint(path)
    section = content['mmkd']
    settings = section.pop('settings')
    assert settings['model.distillers.l2']['every'] == '1'
    known = {name: section[name] for name in ('distillers', 'descriptions', 'hooks', 'teacher', 'position', 'validated',
                                              'ranks')}
    section['digest'] = Section(**known).content()['digest']
    torch.save(content, path)
    said, losses = warnings_of(cfg(begun, resume=True, every=2))
    assert said == []
    assert len(losses) == 2


def test_an_option_that_came_with_a_version_is_no_change():
    before = {'model.distillers.l2': dict(every='1', old='2')}
    assert changed_settings(None, before) == []
    assert changed_settings(before, {'model.distillers.l2': dict(every='1', new='3')}) == []
    now = {'model.distillers.l2': dict(every='1'), 'model.teacher': {}}
    assert changed_settings(before, now) == ['model.teacher is new']
