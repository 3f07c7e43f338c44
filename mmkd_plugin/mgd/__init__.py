from .distiller import MatchingGuidedDistiller
from .hook import MatchingUpdateHook

__all__ = ['MatchingGuidedDistiller', 'MatchingUpdateHook']
