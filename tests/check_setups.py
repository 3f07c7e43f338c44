"""Small distilled configs, right ones and broken ones, for what is looked at before training."""
from copy import deepcopy

import torch
from fuzz.toy import loader
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from zoo import classifier, mgd, pspnet

IMAGE = (32, 32)
PAIR = ('backbone.layer3', 'backbone.layer3')
UPDATE = dict(type='mmkd.MatchingUpdateHook', interval=1)


def l2(*pairs, **options):
    return dict(type='mmkd.FeatureDistiller', pairs=list(pairs or [PAIR]), **options)


def teacher_of(folder, model=None, change=None, seed=0, **options):
    """A teacher's block: a config in place, and a checkpoint of random weights, as training would leave them."""
    model = model or classifier(16)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(model['_scope_']):
        weights = MODELS.build(deepcopy(model)).state_dict()
    weights = {name: value + 1e-3 if value.is_floating_point() else value for name, value in weights.items()}
    file = folder / 'teacher.pth'
    torch.save(dict(state_dict=change(weights) if change else weights), file)
    return dict(config=model, checkpoint=str(file), **options)


def config(folder, student=None, teacher=None, distillers=None, task='classification', size=IMAGE, iterations=50, **more):
    """A training of ``iterations`` on toy images that is right, unless what is given makes it wrong."""
    student = deepcopy(student or classifier(8))
    model = dict(type='mmkd.DistilledModel', student=student, teacher=teacher or teacher_of(folder),
                 distillers=distillers or dict(l2=l2()), image_shape=(3, *size))
    scope = student['_scope_']
    return Config(dict(dict(
        model=model, default_scope=scope, work_dir=str(folder / 'run'), train_dataloader=loader(task, size),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=1000), val_cfg=dict(type='ValLoop'),
        val_dataloader=loader(task, size, 20, 10, shuffle=False),
        val_evaluator=dict(type='Accuracy', _scope_='mmpretrain'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1000, by_epoch=False)),
        randomness=dict(seed=0), log_level='WARNING'), **more))


def searching(folder, kind, hook, iterations=100, **options):
    """A search of DFA or DistPro over two stages of a classifier."""
    stages = ['backbone.layer3', 'backbone.layer4']
    block = dict(type='mmkd.FeatureAggregationDistiller', pairs=stages) if kind == 'AggregationSearchHook' else dict(
        type='mmkd.DistProDistiller', levels=stages, transforms='conv1')
    held_out = {} if 'dataloader' in hook else dict(dataloader=loader('classification', IMAGE, 6))
    return config(folder, distillers=dict(found=dict(block, mode='search', **options)), iterations=iterations,
                  custom_hooks=[dict(type=f'mmkd.{kind}', **held_out, **hook)])


def segmenting(folder, **more):
    """A segmentor, distilled by MGD as the paper has it for classifiers."""
    return config(folder, pspnet(), teacher_of(folder, pspnet(16)), task='segmentation', size=(64, 64),
                  distillers=dict(mgd=mgd('backbone.layer4@preact', reduction='sum')), custom_hooks=[UPDATE], **more)


def swin_teacher():
    """A classifier that takes an image of 128 pixels, and none of 32: its last map is smaller than a window is padded to."""
    return dict(
        type='ImageClassifier', _scope_='mmpretrain',
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True),
        backbone=dict(type='SwinTransformer', img_size=128, window_size=4, arch=dict(
            embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=64))
