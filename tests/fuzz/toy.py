"""Toy data of every task, as a data set of mmengine: each item is a function of its index."""
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS, TRANSFORMS
from mmengine.structures import InstanceData, PixelData

CLASSES = 5


@TRANSFORMS.register_module(force=True)
class FuzzSample:
    """Makes the item of an index: an image, and the ground truth of its task.

    Args:
        task: 'classification', 'segmentation', 'depth' or 'detection'.
        size: (height, width) of the images.
    """

    def __init__(self, task, size):
        self.task, self.size = task, tuple(size)

    def __call__(self, info):
        index = info['sample_idx']
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, *self.size), generator=generator, dtype=torch.uint8)
        meta = dict(img_shape=self.size, ori_shape=self.size, pad_shape=self.size, batch_input_shape=self.size,
                    scale_factor=(1., 1.), img_id=index)
        return dict(inputs=image, data_samples=getattr(self, f'_{self.task}')(meta, generator, index))

    def _classification(self, meta, generator, index):
        from mmpretrain.structures import DataSample
        return DataSample(metainfo=meta).set_gt_label(index % CLASSES)

    def _segmentation(self, meta, generator, index):
        from mmseg.structures import SegDataSample
        labels = torch.randint(0, CLASSES, (1, *self.size), generator=generator)
        labels[:, :8] = 255
        return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels))

    def _depth(self, meta, generator, index):
        from mmseg.structures import SegDataSample
        depth = torch.rand(1, *self.size, generator=generator) * 9 + .5
        return SegDataSample(metainfo=meta, gt_depth_map=PixelData(data=depth))

    def _detection(self, meta, generator, index):
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks
        height, width = self.size
        boxes = torch.tensor([[4, 4, 20, 24], [10, 8, 58, 50], [2, 3, width - 4, height - 2]])
        masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.tolist()):
            mask[top:bottom, left:right] = 1
        return DetDataSample(
            metainfo=meta,
            gt_instances=InstanceData(bboxes=boxes.float(), labels=torch.arange(len(boxes)),
                                      masks=BitmapMasks(masks, height, width)),
            ignored_instances=InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)))


@DATASETS.register_module(force=True)
class FuzzDataset(BaseDataset):
    """``length`` items of one task; a data set as mm's own are, so that it can be split."""

    def __init__(self, task, size, length=8, pipeline=(), **others):
        self.length = length
        pipeline = [*pipeline] or [dict(type='FuzzSample', task=task, size=size, _scope_='mmengine')]
        super().__init__(pipeline=pipeline, serialize_data=False, metainfo=dict(classes=[str(n) for n in range(CLASSES)]),
                         **others)

    def load_data_list(self):
        return [dict(img_path=f'{index}.png') for index in range(self.length)]


@METRICS.register_module(force=True)
class FuzzMetric(BaseMetric):
    """A metric that no run gets to."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(nothing=0.0)


def loader(task, size, length=4, batch_size=2, shuffle=True):
    """A loader's config for toy data, as those of the shipped configs are."""
    return dict(
        batch_size=batch_size, num_workers=0, persistent_workers=False,
        sampler=dict(type='DefaultSampler', shuffle=shuffle, _scope_='mmengine'),
        dataset=dict(type='FuzzDataset', _scope_='mmengine', task=task, size=tuple(size), length=length,
                     pipeline=[dict(type='FuzzSample', _scope_='mmengine', task=task, size=tuple(size))]),
        collate_fn=dict(type='pseudo_collate'))
