"""MGD (Yue et al., ECCV 2020): matching a student's channels with a teacher's, and comparing what was matched."""
from .distiller import MatchingGuidedDistiller
from .hook import MatchingUpdateHook

__all__ = ['MatchingGuidedDistiller', 'MatchingUpdateHook']
