# Embedded scenes in the folder layout of Cityscapes: tools/dataset_converters/demo.py makes them.
_base_ = 'mmseg::_base_/datasets/cityscapes.py'
data_root = 'data/demo/cityscapes/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')
]
test_pipeline = train_pipeline  # what inference APIs take; Cityscapes' would enlarge the scenes
train_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=10, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
test_dataloader = val_dataloader
