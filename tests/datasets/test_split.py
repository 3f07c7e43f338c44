"""The two parts of a split: disjoint, complete, the same everywhere, whatever pipeline and filter they are built with."""
import json

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmkd_plugin.utils.errors import DistillationError


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        path = tmp_path / f'class{number % 2}' / f'{number:02d}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path)
    return dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[], _scope_='mmpretrain')


@pytest.fixture
def annotated(tmp_path):
    """COCO annotations of 20 images; every other has no object."""
    images = [dict(id=number, file_name=f'{number}.jpg', width=8, height=8) for number in range(20)]
    boxes = [dict(id=number, image_id=number, category_id=1, bbox=[0, 0, 6, 6], area=36, iscrowd=0)
             for number in range(0, 20, 2)]
    file = tmp_path / 'coco.json'
    file.write_text(json.dumps(dict(images=images, annotations=boxes, categories=[dict(id=1, name='thing')])))
    return dict(type='CocoDataset', ann_file=str(file), metainfo=dict(classes=('thing',)), data_prefix=dict(img=''),
                pipeline=[], _scope_='mmdet')


def part(dataset, name, **options):
    init_default_scope(dataset['_scope_'])
    return DATASETS.build(dict(type='mmkd.SplitDataset', dataset=dataset, part=name, **options))


def paths(dataset):
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def test_parts_are_disjoint_and_complete(folder):
    train, val = part(folder, 'train'), part(folder, 'val')
    assert (len(train), len(val)) == (16, 4)
    assert not set(paths(train)) & set(paths(val))
    assert set(paths(train)) | set(paths(val)) == set(paths(part(folder, 'train', ratio=0.99))) | set(
        paths(part(folder, 'val', ratio=0.01)))
    assert train[0]['img_path'] == paths(train)[0]
    assert train.metainfo['classes'] == ('class0', 'class1')


def test_the_split_is_a_function_of_the_seed(folder):
    assert paths(part(folder, 'val', seed=3)) == paths(part(folder, 'val', seed=3))
    assert paths(part(folder, 'val', seed=3)) != paths(part(folder, 'val', seed=4))


def test_parts_stay_disjoint_when_only_one_is_filtered(annotated):
    train = part(dict(annotated, filter_cfg=dict(filter_empty_gt=True)), 'train')
    val = part(dict(annotated, test_mode=True), 'val')
    assert len(train) < 16, 'empty images are filtered'
    assert len(val) == 4
    assert not set(paths(train)) & set(paths(val))


def test_a_random_other_image_comes_from_the_same_part(folder):
    val = part(folder, 'val')
    others = {paths(val)[val.dataset._rand_another()] for _ in range(50)}
    assert others == set(paths(val))


@pytest.mark.parametrize(('options', 'message'), [
    (dict(part='test'), "part: 'test'"), (dict(part='val', ratio=1.0), 'ratio: 1.0'),
    (dict(part='val', ratio=0.999), 'is empty')])
def test_a_split_that_cannot_be_made_is_refused(folder, options, message):
    init_default_scope('mmpretrain')
    with pytest.raises(DistillationError, match=message):
        len(DATASETS.build(dict(type='mmkd.SplitDataset', dataset=folder, **options)))


def test_a_wrapper_inside_is_refused(folder):
    init_default_scope('mmpretrain')
    wrapped = dict(type='RepeatDataset', times=2, dataset=folder, _scope_='mmengine')
    with pytest.raises(DistillationError, match='wrappers around SplitDataset'):
        DATASETS.build(dict(type='mmkd.SplitDataset', dataset=wrapped, part='train'))
