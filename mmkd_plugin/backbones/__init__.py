"""Networks of the papers that OpenMMLab lacks, as registered backbones."""
from .cifar_resnet import CIFARResNet
from .wide_resnet import WideResNet

__all__ = ['CIFARResNet', 'WideResNet']
