"""What a distiller is: its base, its capabilities, its strength, and how pairs of taps are written."""
from ..losses.batch import Batch
from .base import Distiller, Features
from .build import build_distiller
from .capabilities import (
    BringsHook,
    ComparesLosses,
    ForwardWrap,
    IdleInPart,
    KeepsStep,
    KeptStep,
    Losses,
    SeesTaskLoss,
    SeparateLosses,
    StandsForSeveral,
    SumsTeacherFeatures,
    TapNames,
    WeighsOthers,
    Wrapped,
    WrapsForward,
    nothing_left_out,
)
from .gradients import GradientComparison, reentrant_checkpoints_refused
from .paired import PairedDistiller, SeparatePairs
from .pairs import Pairs, ParsedPair, describe_pairs, pair_names, short_names
from .strength import ScaleCalibration
from .surroundings import FollowedModel, Identity, Surroundings, named_teacher, one_teacher

__all__ = ['Batch', 'BringsHook', 'ComparesLosses', 'Distiller', 'Features', 'FollowedModel', 'ForwardWrap',
           'GradientComparison', 'Identity', 'IdleInPart', 'KeepsStep', 'KeptStep', 'Losses', 'PairedDistiller', 'Pairs',
           'ParsedPair', 'ScaleCalibration', 'SeesTaskLoss', 'SeparateLosses', 'SeparatePairs', 'StandsForSeveral',
           'SumsTeacherFeatures', 'Surroundings', 'TapNames', 'WeighsOthers', 'Wrapped', 'WrapsForward', 'build_distiller',
           'describe_pairs', 'named_teacher', 'nothing_left_out', 'one_teacher', 'pair_names',
           'reentrant_checkpoints_refused', 'short_names']
