from .features import FeatureDistiller
from .ifvd import IFVDDistiller
from .logits import LogitsDistiller

__all__ = ['FeatureDistiller', 'IFVDDistiller', 'LogitsDistiller']
