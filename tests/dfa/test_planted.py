"""A teacher whose layers are planted: one the student can copy, one of noise, one that tells the class.

What the paper says about the search must come out: by the student's own distance alone the weights go to the layer that is
easiest to match (here it can be copied perfectly); the task loss behind the injected aggregation pulls them to the layer
that is worth most; never to noise. Where they come to rest is a matter of the two gammas.
"""
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset
from zoo import loader

CLASSES, SIZE = 6, 4
pytestmark = pytest.mark.slow


@DATASETS.register_module(force=True)
class PlantedImages(Dataset):
    """Noise whose first value modulo 6 is the class: nothing a small student could find out."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randint(0, 256, (256, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample
        image = self.images[index]
        return dict(inputs=image, data_samples=DataSample().set_gt_label(int(image[0, 0, 0]) % CLASSES))


@MODELS.register_module(force=True)
class PlantedTeacher(nn.Module):
    """``layer1`` has three blocks: a 1x1 convolution of the image, noise, and the one-hot class everywhere."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, CLASSES, 1, bias=False), nn.Identity(), nn.Identity())

    def forward(self, images):
        self.layer1[0]((images - 128) / 74)
        self.layer1[1](torch.randn(len(images), CLASSES, SIZE, SIZE) * .5)
        label = F.one_hot(images[:, 0, 0, 0].long() % CLASSES, CLASSES).float() - 1 / CLASSES
        return self.layer1[2](label[:, :, None, None].expand(-1, -1, SIZE, SIZE)),


@MODELS.register_module(force=True)
class PlantedStudent(nn.Module):
    """Its first stage sees single pixels; its second could use a class that is told."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()))
        self.layer2 = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()))

    def forward(self, images):
        return self.layer2(self.layer1(images)),


def classifier_of(backbone, channels):
    return dict(
        type='ImageClassifier', _scope_='mmpretrain',
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.] * 3, std=[1.] * 3),
        backbone=dict(type=backbone, _scope_='mmengine'), neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=channels, loss=dict(type='CrossEntropyLoss')))


def data(seed):
    cfg = loader('mmpretrain', batch_size=32)
    return dict(cfg, dataset=dict(type='PlantedImages', _scope_='mmengine', seed=seed))


def searched(folder, iterations, **gammas):
    """The weights of (copy, noise, class) after a search."""
    init_default_scope('mmpretrain')
    distiller = dict(type='mmkd.FeatureAggregationDistiller', mode='search', pairs=['backbone.layer1'], **gammas)
    model = dict(type='mmkd.DistilledModel', student=classifier_of('PlantedStudent', 8), image_shape=(3, SIZE, SIZE),
                 teacher=dict(config=classifier_of('PlantedTeacher', CLASSES), allow_random_weights=True),
                 distillers=dict(dfa=distiller))
    hook = dict(type='mmkd.AggregationSearchHook', dataloader=data(1), optimizer=dict(type='Adam', lr=.03, betas=(.5, .999)))
    runner = Runner.from_cfg(Config(dict(
        model=model, work_dir=str(folder), default_scope='mmpretrain', experiment_name=f'planted-{folder.name}',
        train_dataloader=dict(data(0), sampler=dict(type='InfiniteSampler', _scope_='mmengine')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations), custom_hooks=[hook],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.05, momentum=.9)),
        default_hooks=dict(checkpoint=None, logger=None), randomness=dict(seed=0), log_level='WARNING')))
    runner.train()
    return runner.model.distillation.dfa.groups[0].weights()


@pytest.mark.parametrize(('gammas', 'winner'), [(dict(gamma_ts=0), 0), (dict(gamma_st=0), 2), (dict(gamma_st=.02), 2)],
                         ids=['student-teacher path alone', 'teacher-student path alone', 'bridge, 1 to 50'])
def test_who_wins(gammas, winner, tmp_path):
    weights = searched(tmp_path, 150, **gammas)
    assert max(range(3), key=weights.__getitem__) == winner
    assert weights[winner] > .5
    assert weights[1] < .15, 'noise never does'


def test_the_other_path_holds_against_the_collapse(tmp_path):
    copied, _, told = searched(tmp_path / 'alone', 150, gamma_ts=0)
    for gamma in (1., 'auto'):
        bridge_copied, _, bridge_told = searched(tmp_path / f'bridge-{gamma}', 150, gamma_st=gamma)
        assert bridge_copied < copied - .05
        assert bridge_told > 2 * told
