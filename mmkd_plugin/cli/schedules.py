"""The length of a training, and a shorter one with the same course, for a search."""
import copy
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

PART = 4
"""A search is this many times shorter than its training."""
LENGTHS, POINTS = ('begin', 'end', 'T_max', 'total_steps', 'step_size'), ('milestones', 'periods')
"""Keys of a parameter scheduler that count epochs or iterations, and those of lists of such."""


def length_of(cfg: Mapping[str, Any]) -> Tuple[str, int]:
    """The key of a training's length, and how long it is: ``('max_epochs', 12)``; 1 iteration where nothing is said."""
    loop = cfg.get('train_cfg') or {}
    for key in ('max_iters', 'max_epochs'):
        if loop.get(key):
            return key, int(loop[key])
    return 'max_iters', 1


def shortened_length(cfg: Mapping[str, Any]) -> Dict[str, int]:
    """What ``train_cfg`` says of a quarter of the training."""
    key, length = length_of(cfg)
    return {key: max(1, length // PART)}


def shortened_schedule(cfg: Mapping[str, Any]) -> Optional[Union[Dict[str, Any], List[Any]]]:
    """The parameter schedulers of a quarter of the training; None where it has none."""
    schedule = cfg.get('param_scheduler')
    if isinstance(schedule, (list, tuple)):
        return [_shortened(one) for one in schedule]
    # A dict is merged into the training's.
    return dict(_shortened(schedule), _delete_=True) if isinstance(schedule, Mapping) else None


def _shortened(scheduler: Mapping[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Any] = {key: copy.deepcopy(value) for key, value in scheduler.items() if key != '_scope_'}
    for key in LENGTHS:
        if isinstance(found.get(key), int) and found[key] > 0:
            found[key] = max(1, found[key] // PART)
    for key in POINTS:
        if isinstance(found.get(key), (list, tuple)):
            found[key] = [max(1, point // PART) for point in found[key]]
    if 'end' in found and found.get('begin', 0) >= found['end']:
        found['end'] = found['begin'] + 1
    return found
