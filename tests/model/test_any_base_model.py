"""Students that are no mm codebase's: any mmengine BaseModel."""
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset
from zoo import LossRecorder

from mmkd_plugin.model import DistilledMixin
from mmkd_plugin.utils.checkpoint_files import open_checkpoint


@MODELS.register_module(force=True)
class Regressor(BaseModel):
    """Predicts the mean of an image."""

    def __init__(self, channels, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.last = nn.Linear(channels, 1)

    def forward(self, inputs, targets=None, mode='tensor'):
        output = self.last(self.body(inputs)).flatten()
        return dict(loss=(output - targets).square().mean()) if mode == 'loss' else output


class Images(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return dict(inputs=image, targets=image.mean())


def test_any_base_model_can_be_distilled(tmp_path):
    loader = dict(batch_size=4, num_workers=0, dataset=Images(), sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='default_collate'))
    runner = Runner(
        model=dict(type='mmkd.DistilledModel', image_shape=(3, 16, 16), student=dict(type='Regressor', channels=4),
                   teacher=dict(config=dict(type='Regressor', channels=8), allow_random_weights=True),
                   distillers=dict(mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=['body@preact'], reduction='mean'))),
        work_dir=str(tmp_path), train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.01)), experiment_name='any',
        custom_hooks=[dict(type='mmkd.MatchingUpdateHook', num_images=8, dataloader=loader)], cfg=Config())
    recorder = LossRecorder()
    runner.register_hook(recorder)
    runner.train()
    assert isinstance(runner.model, Regressor)
    assert isinstance(runner.model, DistilledMixin)
    assert [set(losses) for losses in recorder.losses] == [{'loss', 'student.loss', 'mgd.loss_body'}] * 4
    assert recorder.losses[0]['mgd.loss_body'] > 0
    first = recorder.losses[0]
    assert first['loss'] == pytest.approx(first['student.loss'] + first['mgd.loss_body'])
    assert set(open_checkpoint(tmp_path / 'epoch_2.pth')['state_dict']) == {
        *Regressor(4).state_dict()}
