"""A loss of one's own: Huber's, quadratic where two features are near, linear further out."""
import torch.nn.functional as F

from mmkd_plugin.losses import FeatureLoss, masked_mean
from mmkd_plugin.registry import MODELS


@MODELS.register_module()
class HuberLoss(FeatureLoss):
    def forward(self, student, teacher, valid=None, batch=None):
        return masked_mean(F.huber_loss(student, teacher, reduction='none'), valid)
