"""Small real models of every codebase, their batches, and runs on them. Weights are random, sizes are toy sizes."""
from contextlib import contextmanager
from copy import deepcopy
from itertools import count

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from torch.utils.data import Dataset

IMAGE = (64, 64)
BN = dict(type='BN', requires_grad=True)
RUNS = count()


def pspnet(base_channels=8, depth=18, num_classes=5, norm_eval=False):
    expansion = 1 if depth in (18, 34) else 4
    return dict(
        type='EncoderDecoder', _scope_='mmseg',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True, size=IMAGE),
        backbone=dict(type='ResNetV1c', depth=depth, stem_channels=8, base_channels=base_channels, norm_cfg=BN,
                      norm_eval=norm_eval, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True),
        decode_head=dict(type='PSPHead', in_channels=base_channels * 8 * expansion, in_index=3, channels=8, norm_cfg=BN,
                         num_classes=num_classes, align_corners=False, dropout_ratio=0.1,
                         loss_decode=dict(type='CrossEntropyLoss')),
        auxiliary_head=dict(type='FCNHead', in_channels=base_channels * 4 * expansion, in_index=2, channels=8,
                            num_convs=1, norm_cfg=BN, num_classes=num_classes, align_corners=False,
                            loss_decode=dict(type='CrossEntropyLoss', loss_weight=.4)),
        train_cfg=dict(), test_cfg=dict(mode='whole'))


def deeplabv3plus(base_channels=8, depth=18):
    """A segmentor with a skip connection: its head reads the first stage beside the last."""
    model = pspnet(base_channels, depth)
    expansion = 1 if depth in (18, 34) else 4
    model['decode_head'] = dict(
        type='DepthwiseSeparableASPPHead', in_channels=base_channels * 8 * expansion, in_index=3, channels=8,
        dilations=(1, 2), c1_in_channels=base_channels * expansion, c1_channels=4, norm_cfg=BN, num_classes=5,
        align_corners=False, dropout_ratio=0.1, loss_decode=dict(type='CrossEntropyLoss'))
    return model


def retinanet(base_channels=8, depth=18):
    expansion = 1 if depth in (18, 34) else 4
    widths = [base_channels * expansion * 2 ** level for level in range(4)]
    return dict(
        type='RetinaNet', _scope_='mmdet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, pad_size_divisor=32),
        backbone=dict(type='ResNet', depth=depth, stem_channels=8, base_channels=base_channels, norm_cfg=BN),
        neck=dict(type='FPN', in_channels=widths, out_channels=16, start_level=1, add_extra_convs='on_input', num_outs=5),
        bbox_head=dict(
            type='RetinaHead', num_classes=4, in_channels=16, stacked_convs=1, feat_channels=16,
            anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                                  strides=[8, 16, 32, 64, 128]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=.5, neg_iou_thr=.4, min_pos_iou=0,
                                     ignore_iof_thr=-1),
                       sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
        test_cfg=dict(nms_pre=10, min_bbox_size=0, score_thr=.05, nms=dict(type='nms', iou_threshold=.5), max_per_img=5))


def classifier(base_channels=8, depth=18, num_classes=5):
    expansion = 1 if depth in (18, 34) else 4
    return dict(
        type='ImageClassifier', _scope_='mmpretrain',
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True),
        backbone=dict(type='ResNet_CIFAR', depth=depth, stem_channels=8, base_channels=base_channels),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=num_classes, in_channels=base_channels * 8 * expansion,
                  loss=dict(type='CrossEntropyLoss')))


STUDENTS = dict(mmseg=pspnet, mmdet=retinanet, mmpretrain=classifier)


def mgd(*pairs, **options):
    return dict(type='mmkd.MatchingGuidedDistiller', **{
        'pairs': list(pairs) or ['backbone.layer3@preact', 'backbone.layer4@preact'], 'reduction': 'mean', **options})


def dfa(mode='search', pairs=('backbone.layer2', 'backbone.layer3', 'backbone.layer4'), **options):
    return dict(type='mmkd.FeatureAggregationDistiller', mode=mode, pairs=list(pairs), **options)


def distilled(student, teacher=None, teacher_options=None, **distillers):
    """Config of a distilled model; the teacher is twice as wide as the default student."""
    scope = student['_scope_']
    teacher = teacher or STUDENTS[scope](base_channels=16)
    return dict(type='mmkd.DistilledModel', student=deepcopy(student),
                teacher=dict(config=teacher, **(teacher_options or dict(allow_random_weights=True))),
                distillers=distillers or dict(mgd=mgd()), image_shape=(3, *IMAGE))


def build(cfg, attach=True):
    model = MODELS.build(deepcopy(cfg))
    if attach and cfg['type'] == 'mmkd.DistilledModel':
        model.attach_distillation()
    return model


def sample(scope, index):
    """One item of a data set of ``scope``, a function of its index."""
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, *IMAGE), generator=generator, dtype=torch.uint8)
    meta = dict(img_shape=IMAGE, ori_shape=IMAGE, pad_shape=IMAGE, scale_factor=(1., 1.), img_id=index,
                sample_idx=index)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample
        data = SegDataSample(metainfo=meta)
        labels = torch.randint(0, 5, (1, *IMAGE), generator=generator)
        labels[:, :8] = 255
        data.gt_sem_seg = PixelData(data=labels)
    elif scope == 'mmdet':
        from mmdet.structures import DetDataSample
        data = DetDataSample(metainfo=meta)
        corner = torch.rand(2, 2, generator=generator) * 30
        data.gt_instances = InstanceData(bboxes=torch.cat([corner, corner + 25], 1),
                                         labels=torch.randint(0, 4, (2,), generator=generator))
    else:
        from mmpretrain.structures import DataSample
        data = DataSample(metainfo=meta).set_gt_label(int(torch.randint(0, 5, (1,), generator=generator)))
    return dict(inputs=image, data_samples=data)


def batch(scope, size=2, start=0):
    items = [sample(scope, start + number) for number in range(size)]
    return dict(inputs=[item['inputs'] for item in items], data_samples=[item['data_samples'] for item in items])


@DATASETS.register_module(force=True)
class ToyDataset(Dataset):
    """``length`` samples of one scope; ``pipeline`` is only there for hooks to find, ``noise`` is a random transform."""

    def __init__(self, scope, length=8, pipeline=(), noise=False):
        self.scope, self.length, self.noise = scope, length, noise

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        item = sample(self.scope, index)
        if self.noise:  # as a transform would, from numpy's global generator
            item['inputs'] = item['inputs'] ^ np.uint8(np.random.randint(128))  # noqa: NPY002
        return item


def loader(scope, length=8, batch_size=2, shuffle=True):
    return dict(batch_size=batch_size, num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=shuffle, _scope_='mmengine'),
                dataset=dict(type='ToyDataset', _scope_='mmengine', scope=scope, length=length, pipeline=[]),
                collate_fn=dict(type='pseudo_collate'))


def run_cfg(model, work_dir, epochs=1, hooks=(), length=8, **others):
    """Config of a short epoch-based run on ToyDataset."""
    scope = (model.get('student') or model)['_scope_']
    init_default_scope(scope)
    return Config(dict(
        model=deepcopy(model), work_dir=str(work_dir), default_scope=scope, experiment_name=f'run-{np.random.rand()}',  # noqa: NPY002
        train_dataloader=loader(scope, length), train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01, momentum=.9, weight_decay=1e-4)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(hooks), randomness=dict(seed=0), log_level='WARNING', **others))


UPDATE = dict(type='mmkd.MatchingUpdateHook', interval=1, num_images=4)


def update_hook(scope, **options):
    return {**UPDATE, 'dataloader': loader(scope, 4), **options}


class Stop(Hook):
    """Ends training after an epoch or an iteration, once its checkpoint has been saved."""
    priority = 'LOWEST'

    def __init__(self, epoch=None, iteration=None):
        self.epoch, self.iteration = epoch, iteration

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epoch:
            runner.train_loop.stop_training = True

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            runner.train_loop.stop_training = True


@OPTIM_WRAPPERS.register_module(force=True)
class BFloatOptimWrapper(OptimWrapper):
    """Mixed precision on a CPU, where mmengine has none, with a scaled loss."""

    class Scaler:
        def get_scale(self):
            return 1024.

        def scale(self, value):
            return value * 1024.

    loss_scaler, dtype = Scaler(), torch.bfloat16

    @contextmanager
    def optim_context(self, model):
        with super().optim_context(model), torch.autocast('cpu', self.dtype):
            yield

    def scale_loss(self, loss):
        return super().scale_loss(loss) * 1024

    def step(self, **options):
        for group in self.optimizer.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.grad /= 1024
        super().step(**options)


@OPTIM_WRAPPERS.register_module(force=True)
class HalfOptimWrapper(BFloatOptimWrapper):
    dtype = torch.float16


class LossRecorder:
    """A hook, made on the spot, that keeps the losses of every iteration."""

    def __new__(cls):
        class Recorder(Hook):
            def __init__(self):
                self.losses = []

            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                self.losses.append({name: float(value) for name, value in outputs.items()})

        return Recorder()


def run(cfg, before=None):
    """Trains; returns (runner, losses per iteration)."""
    # mmengine keeps visualizers by name, and without one its names tell seconds only: those of another run may be met.
    cfg.setdefault('experiment_name', f'run {next(RUNS)}')
    runner = Runner.from_cfg(cfg)
    recorder = LossRecorder()
    runner.register_hook(recorder)
    if before is not None:
        before(runner)
    runner.train()
    return runner, recorder.losses
