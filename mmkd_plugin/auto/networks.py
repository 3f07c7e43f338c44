"""What is found of a network by running it once: its stages, its class scores, its pyramid, its task."""
from dataclasses import dataclass, field
from typing import Callable, List, Optional, Tuple

from torch import Tensor, nn

from ..taps import FeatureTaps, dry_run
from ..taps.survey import Seen, survey
from ..utils.errors import DistillationError

MOST_STAGES = 4
TASKS = ('classification', 'segmentation', 'detection')
DETECTORS = ('bbox_head', 'rpn_head', 'roi_head', 'query_head', 'mask_head')


@dataclass(frozen=True)
class Place:
    """A feature of a network.

    Attributes:
        address: its tap.
        channels: C.
        size: (H, W) in the dry run; None for (B, C).
    """
    address: str
    channels: int
    size: Optional[Tuple[int, int]] = None


@dataclass(frozen=True)
class Network:
    """What a pool of losses needs to know of a network.

    Attributes:
        stages: the outputs of its stages, from early to late; before the activation where the network has one there.
        scores: its class scores, of images or of pixels; None where they are not in one place.
        pyramid: the levels of its neck, where it has several.
    """
    stages: List[Place] = field(default_factory=list)
    scores: Optional[Place] = None
    pyramid: List[Place] = field(default_factory=list)


def task_of(student: nn.Module) -> str:
    """One of ``TASKS``. Raises :class:`DistillationError` where the student's parts do not tell."""
    if hasattr(student, 'decode_head'):
        return 'segmentation'
    if any(hasattr(student, head) for head in DETECTORS):
        return 'detection'
    if hasattr(student, 'head'):
        return 'classification'
    raise DistillationError(f'cannot be told from a {type(student).__name__}', path='task', given='auto',
                            accepted=', '.join(map(repr, TASKS)))


def look_at(model: nn.Module, role: str, run: Callable[[Tensor], object], image: Tensor, task: str) -> Network:
    """Runs a network on an image and says what there is to compare.

    Args:
        model: the student or the teacher.
        role: ``'student'`` or ``'teacher'``.
        run: runs it.
        image: (1, C, H, W).
        task: one of ``TASKS``.
    """
    seen = survey(model, lambda: run(image))
    stages = [_before_activation(model, role, stage, run, image) for stage in _stages(model, seen, role == 'student')]
    pyramid = [_place(each) for each in seen
               if each.address.startswith('neck[') and len(each.shape) == 4 and each.calls == 1]
    return Network(stages, _scores(seen, task), pyramid if task == 'detection' else [])


def matched(student: List[Place], teacher: List[Place]) -> List[Tuple[Place, Place]]:
    """Stages that belong together, early to late: as many as both have, the last with the last.

    Where the numbers differ, those of equal resolution; with none of these, counted from the end.
    """
    if len(student) != len(teacher):
        pairs, rest = [], list(teacher)
        for ours in student:
            fitting = [theirs for theirs in rest if theirs.size == ours.size]
            if fitting:
                pairs.append((ours, fitting[-1]))
                rest = rest[rest.index(fitting[-1]) + 1:]
        if pairs:
            return pairs
    count = min(len(student), len(teacher))
    return list(zip(student[len(student) - count:], teacher[len(teacher) - count:]))


def _place(seen: Seen) -> Place:
    return Place(seen.address, seen.shape[1], (seen.shape[2], seen.shape[3]) if len(seen.shape) == 4 else None)


def _stages(model: nn.Module, seen: List[Seen], trained: bool) -> List[Place]:
    """Children of the backbone that have several layers and give a map; of many, the last at each resolution.

    With ``trained`` those that are frozen are left out.
    """
    root = 'backbone.' if hasattr(model, 'backbone') else ''
    called = {each.address for each in seen}

    def is_stage(each: Seen) -> bool:
        path = each.address.removeprefix(root).split('.')
        child = len(path) == 1 or (len(path) == 2 and f'{root}{path[0]}' not in called)
        layers = sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in each.module.modules())
        if trained and not any(weight.requires_grad for weight in each.module.parameters()):
            return False
        return (each.address.startswith(root) and child and len(each.shape) == 4 and each.calls == 1 and layers > 1
                and 'stem' not in path[0] and 'downsample' not in path[0] and '[' not in each.address)

    found = [_place(each) for each in seen if is_stage(each)]
    if len(found) > MOST_STAGES:
        found = list({place.size: place for place in found}.values())
    return found[-MOST_STAGES:]


def _scores(seen: List[Seen], task: str) -> Optional[Place]:
    kinds = dict(classification=(nn.Linear, 2), segmentation=(nn.Conv2d, 4))
    if task not in kinds:
        return None
    kind, dimensions = kinds[task]
    head = 'decode_head.' if any(each.address.startswith('decode_head.') for each in seen) else ''
    found = [each for each in seen if isinstance(each.module, kind) and len(each.shape) == dimensions and each.calls == 1
             and each.address.startswith(head if task == 'segmentation' else '')]
    return _place(found[-1]) if found else None


def _before_activation(model: nn.Module, role: str, stage: Place, run: Callable[[Tensor], object], image: Tensor) -> Place:
    """The stage before its last activation, where that is of the same width (in inverted residuals it is not)."""
    address = f'{stage.address}@preact'
    try:
        taps = FeatureTaps(model, role, [address])
        dry_run(model, taps, image, lambda images, samples: run(images))
    except DistillationError:
        return stage
    info = taps.info[address]
    return Place(address, info.channels, info.size) if (info.channels, info.size) == (stage.channels, stage.size) else stage
