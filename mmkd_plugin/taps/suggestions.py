"""Which places of a student are compared with which places of a teacher, where nobody says it: by stage and by stride."""
from typing import List, Optional, Sequence, Tuple

from .places import LOGITS, NECK, OUTPUT, STAGE, Place

PlacePair = Tuple[Place, Place]
MOST_PAIRS = 4
"""What comes before four stages is the stem of a network."""


def stage_ends(places: Sequence[Place]) -> List[Place]:
    """The last place of each stage: of the places in a row that have the same stride and the same width.

    Args:
        places: those of a model, in the order of the forward.
    """
    stages = [place for place in places if place.kind == STAGE and place.size] or [
        place for place in places if place.kind == OUTPUT and place.size]
    following: List[Optional[Place]] = [*stages[1:], None]
    return [place for place, after in zip(stages, following)
            if after is None or (after.stride, after.channels) != (place.stride, place.channels)]


def suggest_pairs(student: Sequence[Place], teacher: Sequence[Place]) -> List[PlacePair]:
    """Stages of the student and of the teacher that belong together, shallow to deep, the four deepest at most.

    Where both have stages of the same strides, one after the other, those are pairs. Otherwise the last stages of every
    stride that both have; where there is none, the last of each. Stages of the student behind which nothing is trained are
    left out.

    Args:
        student, teacher: their places, in the order of the forward.
    """
    ours, theirs = stage_ends(student), stage_ends(teacher)
    if not ours or not theirs:
        return []
    found = _by_stride(ours, theirs) or [(ours[-1], theirs[-1])]
    return [pair for pair in found if pair[0].gradient][-MOST_PAIRS:]


def suggest_levels(student: Sequence[Place], teacher: Sequence[Place]) -> List[PlacePair]:
    """Levels of the two necks that have the same stride; none where one has no neck."""
    ours, theirs = ([place for place in places if place.kind == NECK and place.size] for places in (student, teacher))
    return [pair for pair in _by_stride(ours, theirs) if pair[0].gradient]


def suggest_logits(student: Sequence[Place], teacher: Sequence[Place]) -> Optional[PlacePair]:
    """The class scores of both; None where one has none that can be tapped, or the numbers of classes differ."""
    ours, theirs = (next((place for place in places if place.kind == LOGITS), None) for places in (student, teacher))
    if ours is None or theirs is None or ours.channels != theirs.channels or (ours.size is None) != (theirs.size is None):
        return None
    return ours, theirs


def addresses(pairs: Sequence[PlacePair], before_activation: bool = False) -> List[Tuple[str, str]]:
    """The addresses of pairs of places.

    Args:
        pairs: the places.
        before_activation: whether features are taken before the last activation of a stage, where it has one.
    """
    def written(place: Place) -> str:
        return f'{place.address}@preact' if before_activation and place.preact else place.address

    return [(written(ours), written(theirs)) for ours, theirs in pairs]


def _by_stride(ours: Sequence[Place], theirs: Sequence[Place]) -> List[PlacePair]:
    """One by one where the strides are the same; otherwise the last ones of every stride that both have."""
    if [place.stride for place in ours] == [place.stride for place in theirs]:
        return list(zip(ours, theirs))
    last_ours, last_theirs = ({place.stride: place for place in places} for places in (ours, theirs))
    return [(last_ours[stride], last_theirs[stride]) for stride in last_ours if stride in last_theirs]
