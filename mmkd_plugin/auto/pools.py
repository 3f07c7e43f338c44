"""The losses that are pooled by default, by task."""
from typing import Any, Callable, Dict, List, Tuple

from .networks import Network, Place, matched

Pairs = List[Tuple[str, str]]
Made = Dict[str, Dict[str, Any]]
LEVELS = 3
"""How many stages have pathways: the last ones, which cost least."""
PATHWAYS = 'hcl'


def _taps(pairs: List[Tuple[Place, Place]]) -> Pairs:
    return [(ours.address, theirs.address) for ours, theirs in pairs]


def _scores(student: Network, teacher: Network, **losses: Any) -> Made:
    """A distiller of class scores for each loss, where both have as many classes; their config but for the taps."""
    if student.scores is None or teacher.scores is None or student.scores.channels != teacher.scores.channels:
        return {}
    return {name: dict(pairs=[(student.scores.address, teacher.scores.address)], **loss) for name, loss in losses.items()}


def _matching(student: Network, teacher: Network, **options: Any) -> Made:
    pairs = _taps(matched(student.stages, teacher.stages))
    return dict(mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=pairs, **options)) if pairs else {}


def classification(student: Network, teacher: Network) -> Made:
    """KL with standardised class scores, DIST, MGD on the stages."""
    return {**_scores(student, teacher,
                      kd=dict(type='mmkd.LogitsDistiller', loss=dict(type='mmkd.KLLoss', temperature=2.0, standardise=True)),
                      dist=dict(type='mmkd.LogitsDistiller', loss='dist')),
            **_matching(student, teacher)}


def segmentation(student: Network, teacher: Network) -> Made:
    """Channel-wise distillation and KL of the class scores, MGD on the stages."""
    return {**_scores(student, teacher,
                      cwd=dict(type='mmkd.FeatureDistiller', loss=dict(type='mmkd.CWDLoss', temperature=4.0)),
                      kd=dict(type='mmkd.LogitsDistiller', loss='kl')),
            **_matching(student, teacher, reduction='mean')}


def detection(student: Network, teacher: Network) -> Made:
    """PKD on the levels of the neck, MGD on the stages.

    Heads of detectors are called once for each level: their class scores have no tap of their own.
    """
    pairs = _taps(matched(student.pyramid, teacher.pyramid))
    pkd = dict(pkd=dict(type='mmkd.FeatureDistiller', pairs=pairs, loss='pkd')) if pairs else {}
    norm = dict(type='GN', num_groups=_groups(student))
    return {**pkd, **_matching(student, teacher, reduction='mean', norm=norm)}


def _groups(student: Network) -> int:
    """Groups of a norm over channels of each stage: 32, or fewer where a width is no multiple of it."""
    return next(groups for groups in (32, 16, 8, 4, 2, 1) if all(stage.channels % groups == 0 for stage in student.stages))


POOLS: Dict[str, Callable[[Network, Network], Made]] = dict(
    classification=classification, segmentation=segmentation, detection=detection)


def levels(student: Network, teacher: Network) -> Pairs:
    """The levels of DistPro's pathways, early to late."""
    return _taps(matched(student.stages, teacher.stages))[-LEVELS:]
