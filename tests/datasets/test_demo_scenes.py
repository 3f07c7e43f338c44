"""The embedded data: deterministic, disjoint, and readable by the shipped dataset configs with a changed data_root."""
import filecmp
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmkd_plugin.datasets.demo_scenes import BACKGROUND, make_scene, split_digits, write_demo_data
from mmkd_plugin.utils.config import load_config


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    write_demo_data(folder, train=6, val=4)
    return folder


def test_the_same_arguments_give_the_same_files(demo, tmp_path):
    write_demo_data(tmp_path, train=6, val=4)
    files = [path.relative_to(demo) for path in demo.rglob('*') if path.is_file()]
    assert len(files) > 30
    assert filecmp.cmpfiles(demo, tmp_path, files, shallow=False)[0] == files


def test_train_and_validation_digits_are_disjoint():
    train, val = split_digits()['train'][0], split_digits()['val'][0]
    assert len(train) + len(val) == 1797
    # scikit-learn's digits contain no duplicate images, so equality would mean the same digit
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in val}


def test_masks_boxes_and_labels_agree():
    images, labels = split_digits()['val']
    scene = make_scene(images, labels, np.random.default_rng(0))
    assert len(scene.digits) >= 1
    for box, mask, digit in zip(scene.boxes, scene.masks, scene.digits):
        x, y, width, height = box
        assert (scene.labels[mask] == digit).all()
        assert mask[y:y + height, x:x + width].sum() == mask.sum()
        assert mask[y].any()
        assert mask[:, x].any()
    outside = ~np.any(scene.masks, axis=0)
    assert (scene.labels[outside] == BACKGROUND).all()


def dataset_of(reference, root, scope):
    init_default_scope(scope)
    cfg = load_config(reference, 'test')
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(root) + '/'
    return DATASETS.build(dataset)


def test_cityscapes_configs_read_it(demo):
    dataset = dataset_of('mmseg::_base_/datasets/cityscapes.py', demo / 'cityscapes', 'mmseg')
    assert len(dataset) == 6
    item = dataset.prepare_data(0)
    assert set(item['data_samples'].gt_sem_seg.data.unique().tolist()) <= {*range(11), 255}


def test_coco_configs_read_it(demo):
    dataset = dataset_of('mmdet::_base_/datasets/coco_instance.py', demo / 'coco', 'mmdet')
    assert len(dataset) == 6
    item = dataset.prepare_data(0)['data_samples'].gt_instances
    assert len(item.bboxes) == len(item.masks) >= 1
    assert set(item.labels.tolist()) <= set(range(10))


def test_imagenet_configs_read_it(demo):
    dataset = dataset_of('mmpretrain::_base_/datasets/imagenet_bs32.py', demo / 'imagenet', 'mmpretrain')
    used = {int(path.parent.name[-3:]) for path in (demo / 'imagenet/train').rglob('*.png')}
    assert len(dataset) == len(list((demo / 'imagenet/train').rglob('*.png')))
    assert {int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))} == used


def test_shipped_demo_configs_name_this_data():
    root = Path(__file__).resolve().parents[2]
    cfg = Config.fromfile(root / 'configs/demo/pspnet_r18w32-d8_demo-64x128.py')
    assert cfg.train_dataloader.dataset.data_root == 'data/demo/cityscapes/'
    assert cfg.train_dataloader.dataset.type == 'CityscapesDataset'
    # Inference APIs read test_pipeline: at another size than trained at the nets see nothing.
    assert not any('Resize' in step.type for step in cfg.test_pipeline)
