"""What methods measure with: losses by name, distances, divergences, and which part of a batch counts."""
from .activations import ABLoss, OFDLoss
from .attention import ATLoss, FTLoss, NSTLoss
from .base import FeatureLoss, LogitsLoss, Loss
from .batch import Batch
from .build import LossConfig, build_loss, loss_names
from .channels import CWDLoss, PKDLoss
from .contrastive import CRDLoss
from .correlations import DISTLoss, MLKDLoss
from .distances import halving_weights, hcl, l1, l2
from .divergences import kl_divergence
from .features import CosineLoss, HCLLoss, L1Loss, L2Loss
from .focal_global import FGDLoss
from .generative import MaskedGenerativeLoss
from .logits import DKDLoss, KLLoss, NKDLoss, WSLDLoss
from .pixels import CIRKDChannelLoss, CIRKDPixelLoss, IFVDLoss, SKDPairwiseLoss
from .similarity import PKTLoss, RKDAngleLoss, RKDDistanceLoss, SPLoss
from .truth import image_labels, labels_at
from .valid_area import ValidArea, mask_padding_option, masked_mean, masked_norm, pixel_labels
from .variational import VIDLoss

__all__ = ['ABLoss', 'ATLoss', 'Batch', 'CIRKDChannelLoss', 'CIRKDPixelLoss', 'CRDLoss', 'CWDLoss', 'CosineLoss', 'DISTLoss',
           'DKDLoss', 'FGDLoss', 'FTLoss', 'FeatureLoss', 'HCLLoss', 'IFVDLoss', 'KLLoss', 'L1Loss', 'L2Loss', 'LogitsLoss',
           'Loss', 'LossConfig', 'MLKDLoss', 'MaskedGenerativeLoss', 'NKDLoss', 'NSTLoss', 'OFDLoss', 'PKDLoss', 'PKTLoss',
           'RKDAngleLoss', 'RKDDistanceLoss', 'SKDPairwiseLoss', 'SPLoss', 'VIDLoss', 'ValidArea', 'WSLDLoss', 'build_loss',
           'halving_weights', 'hcl', 'image_labels', 'kl_divergence', 'l1', 'l2', 'labels_at', 'loss_names',
           'mask_padding_option', 'masked_mean', 'masked_norm', 'pixel_labels']
