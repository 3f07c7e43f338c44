"""What a distiller is: its base, its capabilities, its strength, and how pairs of taps are written."""
from ..losses.batch import Batch
from .base import Distiller, Features
from .build import build_distiller
from .capabilities import (
    BringsHook,
    ChecksState,
    ForwardWrap,
    IdleInPart,
    KeepsStep,
    KeptStep,
    Losses,
    SeesTaskLoss,
    SumsTeacherFeatures,
    TapNames,
    Wrapped,
    WrapsForward,
)
from .gradients import reentrant_checkpoints_refused
from .paired import PairedDistiller
from .pairs import Pairs, ParsedPair, describe_pairs, pair_names, short_names
from .surroundings import FollowedModel, Identity, Surroundings, named_teacher, one_teacher

__all__ = ['Batch', 'BringsHook', 'ChecksState', 'Distiller', 'Features', 'FollowedModel', 'ForwardWrap', 'Identity',
           'IdleInPart', 'KeepsStep', 'KeptStep', 'Losses', 'PairedDistiller', 'Pairs', 'ParsedPair', 'SeesTaskLoss',
           'SumsTeacherFeatures', 'Surroundings', 'TapNames', 'Wrapped', 'WrapsForward', 'build_distiller', 'describe_pairs',
           'named_teacher', 'one_teacher', 'pair_names', 'reentrant_checkpoints_refused', 'short_names']
