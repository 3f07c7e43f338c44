"""What methods are compared with: plain distillation of features and of class scores, and IFVD."""
from .features import FeatureDistiller
from .ifvd import IFVDDistiller
from .logits import LogitsDistiller

__all__ = ['FeatureDistiller', 'IFVDDistiller', 'LogitsDistiller']
