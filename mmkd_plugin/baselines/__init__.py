from .features import FeatureDistiller
from .logits import LogitsDistiller

__all__ = ['FeatureDistiller', 'LogitsDistiller']
