"""Networks of the papers that OpenMMLab lacks, as registered backbones."""
from .cifar_resnet import CIFARResNet
from .mobilenet_v1 import MobileNetV1
from .shufflenet import CIFARShuffleNetV1, CIFARShuffleNetV2
from .wide_resnet import WideResNet

__all__ = ['CIFARResNet', 'CIFARShuffleNetV1', 'CIFARShuffleNetV2', 'MobileNetV1', 'WideResNet']
