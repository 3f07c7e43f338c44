"""A teacher whose config is named needs no checkpoint: the published one, or what its own training has left."""
import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from zoo import classifier

from mmkd_plugin.model.default_checkpoint import default_checkpoint
from mmkd_plugin.model.teacher import build_teacher
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.errors import DistillationError

MODEL_ZOOS = ('https://download.openmmlab.com/', 'https://mmassets.onedl.ai/')
"""OneDL's packages name the files where OneDL has copied them."""
PUBLISHED = {
    'mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py':
    'mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_80k_cityscapes/'
    'pspnet_r101-d8_512x1024_80k_cityscapes_20200606_112211-e1e1100f.pth',
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py':
    'mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth',
    'mmpretrain::resnet/resnet34_8xb32_in1k.py':
    'mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a classifier's config, ``tiny.py``, that is trained for 3 epochs."""
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(model=classifier(), default_scope='mmpretrain', train_cfg=dict(by_epoch=True, max_epochs=3)))
    cfg.dump(tmp_path / 'tiny.py')
    return tmp_path


@pytest.fixture
def log():
    """The messages of mmengine's logger while a test runs."""
    messages = []

    class Collector(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    logger, collector = MMLogger.get_current_instance(), Collector()
    logger.addHandler(collector)
    yield messages
    logger.removeHandler(collector)


def checkpoint_of(reference):
    return default_checkpoint(reference, load_config(reference, 'config'))


def save_weights(path):
    init_default_scope('mmpretrain')
    torch.manual_seed(7)
    model = MODELS.build(classifier())
    path.parent.mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict()), path)
    return model.state_dict()


@pytest.mark.parametrize('reference', PUBLISHED)
def test_a_config_of_a_package_has_the_weights_that_are_published_for_it(reference):
    assert checkpoint_of(reference) in [zoo + PUBLISHED[reference] for zoo in MODEL_ZOOS]


@pytest.mark.parametrize(('reference', 'left'), [
    ('mmkd_plugin::demo/pspnet_r18w32-d8_demo-64x128.py', 'work_dirs/pspnet_r18w32-d8_demo-64x128/iter_600.pth'),
    ('tiny.py', 'work_dirs/tiny/epoch_3.pth')])
def test_any_other_config_has_the_last_checkpoint_of_its_own_training(workplace, reference, left):
    (workplace / left).parent.mkdir(parents=True)
    (workplace / left).with_name('epoch_1.pth').touch()
    (workplace / left).touch()
    assert Path(checkpoint_of(reference)) == Path(left)


def test_without_a_training_they_are_those_beside_the_config(workplace):
    save_weights(workplace / 'exported/tiny.pth')
    (workplace / 'exported/tiny.py').write_text((workplace / 'tiny.py').read_text())
    assert Path(checkpoint_of('exported/tiny.py')) == Path('exported/tiny.pth')
    save_weights(workplace / 'work_dirs/tiny/epoch_3.pth')
    assert Path(checkpoint_of('exported/tiny.py')) == Path('work_dirs/tiny/epoch_3.pth')


def test_a_teacher_gets_these_weights_and_says_so(workplace, log):
    weights = save_weights(workplace / 'work_dirs/tiny/epoch_3.pth')
    teacher = build_teacher(dict(config='tiny.py'))
    loaded = teacher.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in weights.items())
    assert teacher.identity['checkpoint'] == str(Path('work_dirs/tiny/epoch_3.pth'))
    assert f'teacher: no checkpoint is given; that of tiny.py is {Path("work_dirs/tiny/epoch_3.pth")}' in log


def test_a_checkpoint_that_is_given_is_taken(workplace):
    save_weights(workplace / 'work_dirs/tiny/epoch_3.pth')
    with pytest.raises(DistillationError, match=r"model\.teacher\.checkpoint: .*'mine\.pth'"):
        build_teacher(dict(config='tiny.py', checkpoint='mine.pth'))


def test_a_training_that_has_not_been_done_is_named_with_its_command(workplace):
    with pytest.raises(DistillationError) as found:
        build_teacher(dict(config='tiny.py'))
    text = str(found.value)
    assert text.startswith(f'model.teacher.checkpoint: is missing, and there is no {Path("work_dirs/tiny/epoch_3.pth")} ')
    assert 'mmkd train tiny.py' in text


@pytest.mark.parametrize(('reference', 'problem'), [
    ('mmpretrain::resnet/resnet50_8xb32-mixup_in1k.py', 'names none'),
    ('short.py', 'no train_cfg')])
def test_a_config_whose_name_leads_to_no_checkpoint_is_an_error(workplace, reference, problem):
    Config(dict(model=classifier())).dump(workplace / 'short.py')
    with pytest.raises(DistillationError, match=problem) as found:
        checkpoint_of(reference)
    assert found.value.path == 'checkpoint'


def test_a_config_without_a_name_needs_a_checkpoint():
    with pytest.raises(DistillationError, match=r'^model\.teacher\.checkpoint: is missing: a teacher with random weights '
                       r'teaches noise\. Accepted: .* allow_random_weights=True'):
        build_teacher(dict(config=classifier()))
