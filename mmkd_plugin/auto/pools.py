"""The losses that are pooled by default, by task."""
from typing import Any, Callable, Dict, List, Sequence, Tuple

from torch import nn

from ..taps.places import Place
from ..taps.suggestions import addresses, suggest_levels, suggest_logits, suggest_pairs
from ..utils.errors import DistillationError

Pairs = List[Tuple[str, str]]
Places = Sequence[Place]
Made = Dict[str, Dict[str, Any]]
DETECTORS = ('bbox_head', 'rpn_head', 'roi_head', 'query_head', 'mask_head')
LEVELS = 3
"""How many stages have pathways: the last ones, which cost least."""
PATHWAYS = 'hcl'


def task_of(student: nn.Module) -> str:
    """One of the names in ``POOLS``. Raises :class:`DistillationError` where the student's parts do not tell."""
    if hasattr(student, 'decode_head'):
        return 'segmentation'
    if any(hasattr(student, head) for head in DETECTORS):
        return 'detection'
    if hasattr(student, 'head'):
        return 'classification'
    raise DistillationError(f'cannot be told from a {type(student).__name__}', path='task', given='auto',
                            accepted=', '.join(map(repr, POOLS)))


def _scores(student: Places, teacher: Places, **losses: Any) -> Made:
    """A distiller of class scores for each loss, where both have as many classes; their config but for the taps."""
    scores = suggest_logits(student, teacher)
    return {} if scores is None else {name: dict(pairs=addresses([scores]), **loss) for name, loss in losses.items()}


def _matching(student: Places, teacher: Places, **options: Any) -> Made:
    pairs = _stages(student, teacher)
    return dict(mgd=dict(type='mmkd.MatchingGuidedDistiller', pairs=pairs, **options)) if pairs else {}


def _stages(student: Places, teacher: Places) -> Pairs:
    return addresses(suggest_pairs(student, teacher), before_activation=True)


def classification(student: Places, teacher: Places) -> Made:
    """KL with standardised class scores, DIST, MGD on the stages."""
    return {**_scores(student, teacher,
                      kd=dict(type='mmkd.LogitsDistiller', loss=dict(type='mmkd.KLLoss', temperature=2.0, standardise=True)),
                      dist=dict(type='mmkd.LogitsDistiller', loss='dist')),
            **_matching(student, teacher)}


def segmentation(student: Places, teacher: Places) -> Made:
    """Channel-wise distillation and KL of the class scores, MGD on the stages."""
    return {**_scores(student, teacher,
                      cwd=dict(type='mmkd.FeatureDistiller', loss=dict(type='mmkd.CWDLoss', temperature=4.0)),
                      kd=dict(type='mmkd.LogitsDistiller', loss='kl')),
            **_matching(student, teacher, reduction='mean')}


def detection(student: Places, teacher: Places) -> Made:
    """PKD on the levels of the neck, MGD on the stages.

    Heads of detectors are called once for each level: their class scores have no tap of their own.
    """
    pairs = addresses(suggest_levels(student, teacher))
    pkd = dict(pkd=dict(type='mmkd.FeatureDistiller', pairs=pairs, loss='pkd')) if pairs else {}
    norm = dict(type='GN', num_groups=_groups([ours.channels for ours, _ in suggest_pairs(student, teacher)]))
    return {**pkd, **_matching(student, teacher, reduction='mean', norm=norm)}


def _groups(widths: Sequence[int]) -> int:
    """Groups of a norm over channels of each stage: 32, or fewer where a width is no multiple of it."""
    return next(groups for groups in (32, 16, 8, 4, 2, 1) if all(width % groups == 0 for width in widths))


POOLS: Dict[str, Callable[[Places, Places], Made]] = dict(
    classification=classification, segmentation=segmentation, detection=detection)


def levels(student: Places, teacher: Places) -> Pairs:
    """The levels of DistPro's pathways, early to late."""
    return _stages(student, teacher)[-LEVELS:]
