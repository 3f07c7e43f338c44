"""Checks that look at the config alone."""
from pathlib import Path
from typing import Any, Iterator, List, Mapping

from mmengine.config import Config

from ..distiller.strength import SETTLING_WINDOW
from ..model.overlay import STUDENT_KEYS, ModelOptions
from ..search.validation import SPLIT_TYPES
from ..utils.dataset_configs import innermost
from .bases import lost_hooks
from .findings import Finding, advice, check, error, warning
from .setup import Setup

DENSE_SCOPES = ('mmseg', 'mmdet')
MODEL_KEYS = ('type', *ModelOptions.__dataclass_fields__, *STUDENT_KEYS)
MOST_SHOWN = 3


@check('config', at_start=False)
def forgotten_delete(setup: Setup) -> Iterator[Finding]:
    """Keys of the base's model beside those of a distilled one."""
    left = [key for key in setup.block if key not in MODEL_KEYS and key != '_delete_']
    if left and ('student' in setup.block or 'distillers' in setup.block):
        yield error('model._delete_', f'the model of the base config has been merged into this one: {_listed(left)} stand '
                    'beside student, teacher and distillers', 'Write model=dict(_delete_=True, ...), which replaces it')


@check('config', at_start=False)
def forgotten_name(setup: Setup) -> Iterator[Finding]:
    """``distillers=dict(type=...)``: the level of the names is missing."""
    blocks = setup.block.get('distillers')
    if isinstance(blocks, dict) and isinstance(blocks.get('type'), str):
        yield error('model.distillers', 'has a type itself: the level of the names is missing',
                    f'Write distillers=dict(NAME=dict(type={blocks["type"]!r}, ...)) with a name of your own')


@check('config')
def random_teacher(setup: Setup) -> Iterator[Finding]:
    """A teacher without trained weights."""
    for key, block in setup.teachers.items():
        if block.get('allow_random_weights') is True and block.get('checkpoint') is None:
            yield error(f'{key}.allow_random_weights', 'THE TEACHER HAS RANDOM WEIGHTS: the student learns noise',
                        'Take it out, and give its checkpoint; it is meant for tests')


@check('config', at_start=False)
def nothing_acts(setup: Setup) -> Iterator[Finding]:
    """All weights are 0."""
    parts = setup.distillers.values()
    if parts and all(part.options.loss_weight == 0 for part in parts) and not setup.searches:
        yield warning(f'{next(iter(parts)).key}.loss_weight', 'no distiller acts: the weight of each is 0, and the student '
                      'is trained alone', 'Give a weight above 0')


@check('config', at_start=False)
def missing_hook(setup: Setup) -> Iterator[Finding]:
    """A search without its hook."""
    types = [part.kind.__name__ for part in setup.hooks]
    for name, part in setup.distillers.items():
        needed = getattr(part.kind, 'search_hook', None) if getattr(part.options, 'mode', None) == 'search' else None
        if needed and needed.split('.')[-1] not in types:
            yield error('custom_hooks', f'{name} searches, and there is no {needed}', f"Add dict(type='{needed}')")


@check('config')
def hooks_lost(setup: Setup) -> Iterator[Finding]:
    """Hooks of the base config that ``custom_hooks`` has replaced."""
    if setup.searches:
        return  # a search leaves them out on purpose: its student is not to be used
    for name, file in lost_hooks(setup.cfg):
        yield warning('custom_hooks', f'the base config {file} has a {name}, which is not in this run: a list replaces the '
                      'inherited one', 'Write custom_hooks=[*_base_.custom_hooks, ...], or repeat the hook; if it is left '
                      'out on purpose, all is well')


@check('config', at_start=False)
def update_interval(setup: Setup) -> Iterator[Finding]:
    """Matching updates that never come; the hook itself says so when training begins."""
    for part in setup.hooks:
        if not part.is_a('MatchingUpdateHook') or setup.iterations is None or part.options.interval == 'auto':
            continue
        length, unit = setup.iterations, 'iterations'
        if part.options.by_epoch:
            if setup.per_epoch is None:
                continue
            length, unit = max(1, setup.iterations // setup.per_epoch), 'epochs'
        points = part.options.interval if isinstance(part.options.interval, list) else [part.options.interval]
        late = [point for point in points if point > length]
        if late:
            yield warning(f'{part.key}.interval', f'{late} never comes in a run of {length} {unit}: the matching is found '
                          'once and stays as it is', f'About five updates a run are usual: {max(1, length // 5)}')


@check('config')
def calibration_too_long(setup: Setup) -> Iterator[Finding]:
    """``loss_scale='auto'``, or a pool, in a run that is over before the scale is found."""
    work_dir = Path(setup.cfg.work_dir) if setup.cfg.get('work_dir') else None
    for part in setup.distillers.values():
        options = part.options
        # The file of a search has the scales; a run that searches to its end takes what it has found by then.
        of_a_pool = part.is_a('AutoDistiller') and options.until != 1 and options.file(work_dir) is None
        if setup.iterations is None or not (of_a_pool or options.loss_scale == 'auto'):
            continue
        needed = options.calibration_iters or SETTLING_WINDOW
        end = setup.iterations if options.end is None else min(options.end, setup.iterations)
        acting = len(options.acting(end))
        if acting >= needed:
            continue
        lasting = f'{needed} iterations at least, and the distiller acts in {acting}'
        if of_a_pool:
            yield warning(f'{part.key}.type', f'to find the scales of its losses takes a pool {lasting}: they move until '
                          'the end', 'Train longer, or give distillers with a loss_weight of their own')
        else:
            yield warning(f'{part.key}.calibration_iters', f"loss_scale='auto' takes {lasting}: the scale moves until the "
                          'end', 'Give fewer calibration_iters, or a number for loss_scale')


@check('config')
def normalisation_unit(setup: Setup) -> Iterator[Finding]:
    """Means and standard deviations of images in 0..1, where mm has 0..255."""
    for key, block in _preprocessors(setup):
        mean, std = _numbers(block.get('mean')), _numbers(block.get('std'))
        if mean and std and 0 < max(mean) <= 1 and max(std) <= 1:
            yield error(f'{key}.mean', f'mean {mean} and std {std} are those of images in 0..1; mm normalises images in '
                        '0..255', 'Multiply both by 255')


@check('config')
def norm_of_few_images(setup: Setup) -> Iterator[Finding]:
    """A batch norm inside a loss, over a batch of one image."""
    loader = setup.cfg.get('train_dataloader')
    size = loader.get('batch_size') if isinstance(loader, dict) else None
    for part in setup.distillers.values():
        norm = getattr(part.options, 'norm', None)
        if size == 1 and isinstance(norm, dict) and norm.get('type') == 'BN':
            yield warning(f'{part.key}.norm', 'is a batch norm, and each GPU has a batch of one image', "Take norm='GN', or "
                          "'SyncBN' on several GPUs")


@check('config', at_start=False)
def summed_in_dense_prediction(setup: Setup) -> Iterator[Finding]:
    """The paper's sum, made for classifiers, where maps are large."""
    for part in setup.distillers.values():
        if (part.is_a('MatchingGuidedDistiller') and part.options.reduction == 'sum'
                and setup.cfg.get('default_scope') in DENSE_SCOPES):
            yield advice(f'{part.key}.reduction', "is 'sum', as the paper has it for classifiers: in dense prediction it "
                         'grows with the maps', "Take reduction='mean'")


@check('config', at_start=False)
def trains_on_a_part(setup: Setup) -> Iterator[Finding]:
    """A training that sees the part of the images that a search has trained on."""
    loader = setup.cfg.get('train_dataloader')
    if setup.searches or not isinstance(loader, dict):
        return
    if any(isinstance(one, dict) and one.get('type') in SPLIT_TYPES for one in innermost(loader.get('dataset'), _is_split)):
        yield warning('train_dataloader.dataset', 'is a part of the images (mmkd.SplitDataset), in a training that searches '
                      'nothing', 'Train on all images; what a search holds out belongs into `search`')


def _preprocessors(setup: Setup) -> Iterator[Any]:
    """The preprocessors that the config itself holds, with their keys: of the run, the student, and teachers in place."""
    student = setup.block.get('student')
    holders: List[Any] = [('', setup.cfg), ('model.student.', student)]
    for key, teacher in setup.teachers.items():
        config = teacher.get('config')
        model = config.get('model') if isinstance(config, Mapping) else None
        holders.append((f'{key}.config.', config) if model is None else (f'{key}.config.model.', model))
    blocks = ((key, holder.get('data_preprocessor')) for key, holder in holders if isinstance(holder, (Mapping, Config)))
    yield from ((f'{key}data_preprocessor', block) for key, block in blocks if isinstance(block, Mapping))


def _numbers(values: Any) -> List[float]:
    listed = isinstance(values, (list, tuple)) and all(isinstance(value, (int, float)) for value in values)
    return list(values) if listed else []


def _is_split(dataset: Any) -> bool:
    return isinstance(dataset, dict) and dataset.get('type') in SPLIT_TYPES


def _listed(names: List[str]) -> str:
    return ', '.join(names[:MOST_SHOWN]) + (f' and {len(names) - MOST_SHOWN} more' if len(names) > MOST_SHOWN else '')
