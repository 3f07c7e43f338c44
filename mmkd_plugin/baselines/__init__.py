"""What methods are compared with: distillation of features and of class scores, IFVD, and knowledge review."""
from .features import FeatureDistiller
from .ifvd import IFVDDistiller
from .logits import LogitsDistiller
from .review import ReviewKDDistiller

__all__ = ['FeatureDistiller', 'IFVDDistiller', 'LogitsDistiller', 'ReviewKDDistiller']
