"""What the documentation says of every option, written down a second time: the judge of what may be accepted.

Nothing here asks the package. Where docs/options.md changes, this changes too.
"""
import math
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Callable, Dict, List, Tuple

TRANSFORMS = ('conv1', 'conv2', 'conv3', 'conv3_relu', 'token1', 'token2', 'token3')
NORMALISATIONS = ('biased_softmax', 'softmax', 'biased_l1', 'l1', 'sigmoid')
TAP = re.compile(r'([^\W\d]\w*:)?[^\[\]@:\s]+(\[-?\d+\])?(@(out|in|preact|end))?')


@dataclass(frozen=True)
class Documented:
    """One option.

    Attributes:
        fits: whether a value is one that the documentation allows.
        near: values that are valid, or nearly.
        required: whether it has to be given.
    """
    fits: Callable[[Any], bool]
    near: List[Any] = field(default_factory=list)
    required: bool = False


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and _finite(value)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(above=-math.inf, least=-math.inf, below=math.inf, most=math.inf, whole=False, **more) -> Documented:
    def fits(value: Any) -> bool:
        inside = is_number(value) and above < value < below and least <= value <= most
        return inside and (not whole or isinstance(value, Integral))
    bounds = [bound for bound in (above, least, below, most) if math.isfinite(bound)]
    near = [value for bound in bounds for value in (bound, bound + 1, bound - 1, bound + .001, bound - .001)]
    return Documented(fits, [*near, 1, 2, 3, 0.25, 1.0, '1', True], **more)


def choice(*names: Any, **more) -> Documented:
    return Documented(lambda value: isinstance(value, str) and value in names,
                      [*names, *(name.upper() for name in names if name), *(name[:-1] for name in names if name)], **more)


def optional(kind: Documented, *constants: Any) -> Documented:
    constants = constants or (None,)
    return Documented(lambda value: any(value is one or (isinstance(value, str) and value == one) for one in constants)
                      or kind.fits(value), [*constants, *kind.near], kind.required)


FLAG = Documented(lambda value: isinstance(value, bool), [True, False, 'True', 'False', 0, 1, 'no', [True]])
BLOCK = Documented(lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value), [{}, {5: 1}, []])
TEXT = Documented(lambda value: isinstance(value, str) and bool(value), ['x', '', 5])
PADDING = optional(FLAG)
LOADER = Documented(lambda value: BLOCK.fits(value) and 'dataset' in value, [{}, dict(dataset=5), dict(batch_size=2)])


def listed(kind: Documented, length: int = 0, different: bool = False, **more) -> Documented:
    def fits(value: Any) -> bool:
        return (isinstance(value, (list, tuple)) and len(value) > 0 and (not length or len(value) == length)
                and all(map(kind.fits, value)) and not (different and len(set(value)) < len(value)))
    near = [[one] for one in kind.near[:4]] + [[one, one] for one in kind.near[:4]] + [[one] * 3 for one in kind.near[:3]]
    return Documented(fits, near, **more)


def is_tap(value: Any) -> bool:
    return isinstance(value, str) and TAP.fullmatch(value) is not None


def pairs(several: bool = False, length: int = 0, more: Tuple[str, ...] = (), **options) -> Documented:
    def side(value: Any) -> bool:
        return is_tap(value) or (several and isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_tap, value))
                                 and len(set(value)) == len(value))

    def fits(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) > 0 and (not length or len(value) == length) and all(
            map(pair, value))

    def pair(value: Any) -> bool:
        if isinstance(value, dict):
            known = {'student', 'teacher', *more}
            every = value.get('every', 1)
            return (set(value) <= known and 'student' in value and (several or 'teacher' in value)
                    and is_tap(value['student']) and ':' not in value['student']
                    and side(value.get('teacher', value['student']))
                    and isinstance(every, Integral) and not isinstance(every, bool) and every > 0)
        if isinstance(value, (list, tuple)):
            return len(value) == 2 and is_tap(value[0]) and ':' not in value[0] and side(value[1])
        return is_tap(value)

    return Documented(fits, [], **options)


WHOLE = dict(whole=True)
STRENGTH = dict(
    loss_weight=number(least=0), begin=number(least=0, whole=True), end=optional(number(least=0, whole=True)),
    warmup=number(least=0, whole=True), every=number(above=0, whole=True), scale_by_every=FLAG,
    fraction=number(above=0, most=1), loss_scale=optional(number(above=0), 'auto'),
    calibration_iters=optional(number(above=0, most=100000, whole=True)), log_gradients=number(least=0, whole=True))
AVERAGING = dict(requires_grad=FLAG, eps=number(above=0, below=1), affine=FLAG, track_running_stats=FLAG,
                 momentum=optional(number(least=0, most=1)))
NORMS = dict(BN=AVERAGING, SyncBN=AVERAGING, IN=AVERAGING, GN=dict(
    requires_grad=FLAG, eps=number(above=0, below=1), affine=FLAG, num_groups=number(above=0, whole=True)))


def is_norm(value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None or (isinstance(value, str) and value in NORMS)
    kind = value.get('type')
    known = NORMS.get(kind, {}) if isinstance(kind, str) else {}
    return bool(known) and all(name == 'type' or (name in known and known[name].fits(one)) for name, one in value.items())


NORM = Documented(is_norm, ['BN', 'GN', 'IN', None, 'LN', dict(type='GN'), dict(type='GN', num_groups=2),
                            dict(type='BN', x=1)])
_ONE_TRANSFORM = choice(*TRANSFORMS)


def is_function(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r'[^\0]+:[^\W\d]\w*(\.[^\W\d]\w*)*', value) is not None


def is_named_blocks(value: Any) -> bool:
    return BLOCK.fits(value) and bool(value) and all(
        name.isidentifier() and 'loss' not in name and BLOCK.fits(block) for name, block in value.items())


def is_members(value: Any) -> bool:
    return (isinstance(value, (list, tuple)) and bool(value) and all(isinstance(name, str) for name in value)
            and len(set(value)) == len(value)
            and all(re.fullmatch(r'[^\W\d]\w*(\..+)?', name, re.DOTALL) for name in value))


ONE_PAIR = pairs(length=1)
RUNTIME_OPTIONS = dict(fold_bn=FLAG, channels_last=FLAG, precision=optional(choice('float16', 'bfloat16')), compile=FLAG,
                       stream=FLAG)


def is_runtime(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, str) and value in ('plain', 'auto')
    return all(name in RUNTIME_OPTIONS and RUNTIME_OPTIONS[name].fits(one) for name, one in value.items())


# Neither `compile`, which takes minutes, nor `precision`, which a CPU refuses, is drawn.
RUNTIME = Documented(is_runtime, ['plain', 'auto', 'fast', None, {}, dict(fold_bn=True), dict(channels_last=True),
                                  dict(fold_bn=1), dict(stream=True), dict(fold=True)])
EVERY_TEACHER = dict(allow_random_weights=FLAG, size_multiple=number(above=0, most=1024, whole=True), runtime=RUNTIME)
OPTIONS: Dict[str, Dict[str, Documented]] = {
    'model': dict(student=Documented(BLOCK.fits, required=True), teacher=optional(BLOCK),
                  teachers=optional(Documented(is_named_blocks, [{}, dict(big={}), dict(big=5), {'a b': {}}])),
                  distillers=Documented(lambda value: BLOCK.fits(value) and bool(value), required=True),
                  data_preprocessor=optional(BLOCK), image_shape=listed(number(above=0, most=8192, whole=True), 3)),
    'teacher': dict(config=Documented(lambda value: isinstance(value, (str, dict)) and bool(value), required=True),
                    checkpoint=optional(TEXT), overrides=optional(BLOCK), **EVERY_TEACHER),
    'module teacher': dict(
        module=Documented(is_function, ['torch.nn:Identity', 'torch.nn', 'torch.nn:', ':x', 'x.py:f'], required=True),
        kwargs=optional(BLOCK), checkpoint=optional(TEXT), mean=optional(listed(number(least=0, most=1))),
        std=optional(listed(number(above=0, most=1))), channel_order=choice('rgb', 'bgr', 'student'), **EVERY_TEACHER),
    'mmkd.MatchingGuidedDistiller': dict(
        STRENGTH, pairs=pairs(required=True), reducer=choice(
            'sparse', 'random_drop', 'random_drop_channel', 'absolute_max', 'simple_max', 'signed_max'), norm=NORM,
        margin=choice('auto', 'norm', 'data', 'none'), reduction=choice('sum', 'mean'),
        divisor=number(above=1e-4, below=1e12),
        stage_weights=optional(listed(number(least=0))), surplus=choice('shave', 'select'), seed=number(least=0, whole=True),
        mask_padding=PADDING),
    'mmkd.DistProDistiller': dict(
        STRENGTH, levels=optional(pairs()), mode=choice('process', 'final', 'equal', 'constant', 'search'),
        members=optional(Documented(is_members, [['mgd'], ['mgd.loss_layer3'], ['kd', 'kd'], ['kd.'], 'kd', [], [1]])),
        scales=optional(Documented(listed(number(above=0)).fits, [[1], [0], 'found']), None, 'auto', 'calibrated'),
        scale_iters=optional(number(above=0, most=100000, whole=True)), total=optional(number(above=0), None, 'auto'),
        process=optional(TEXT), values=optional(listed(number())),
        connections=Documented(lambda value: value in ('all', 'lower_to_higher', 'higher_to_lower') if isinstance(value, str)
                               else pairs().fits(value), ['all', 'lower_to_higher', 'higher_to_lower', 'lower']),
        transforms=Documented(lambda value: _ONE_TRANSFORM.fits(value) or listed(_ONE_TRANSFORM, different=True).fits(value),
                              ['conv1', 'token1', ['conv1', 'conv2'], ['conv1', 'conv1'], 'conv']),
        normalisation=choice(*NORMALISATIONS, 'auto'), bias=optional(number(), 'auto'),
        tau=optional(number(), None, 'auto'), scale_by_pathways=FLAG,
        pathway_map=optional(Documented(BLOCK.fits, [dict(teacher={}), dict(student={'x': 'y'}), dict(x={})])),
        length=optional(number(above=0, most=1e9, whole=True)), mask_padding=PADDING),
    'mmkd.AutoDistiller': dict(
        {key: STRENGTH[key] for key in ('loss_weight', 'begin', 'end', 'warmup')},
        task=choice('auto', 'classification', 'segmentation', 'detection'),
        pool=optional(Documented(listed(TEXT, different=True).fits,
                                 [['kd'], ['mgd', 'hcl'], ['kd', 'kd'], ['x'], [], 'kd'])),
        mode=choice('train', 'search'), process=optional(TEXT), searched=optional(number(above=0, below=1)),
        online=FLAG, total=optional(number(above=0)), transforms=_ONE_TRANSFORM),
    'mmkd.FeatureAggregationDistiller': dict(
        STRENGTH, pairs=pairs(several=True, more=('every',), required=True), mode=choice('search', 'distill'),
        every_block=number(above=0, whole=True), resize=FLAG, normalise_layers=FLAG,
        teacher_transform=optional(choice('margin_relu')),
        connector_norm=optional(choice('BN', 'SyncBN')), seed=number(least=0, whole=True), mask_padding=PADDING,
        aggregation=optional(Documented(TEXT.fits, ['last', 'average', 'random', 'mean', 'x.json', 'run'])),
        distance=choice('mean', 'sum', 'normalized'), transfer=FLAG, gamma_st=optional(number(least=0), 'auto'),
        gamma_ts=number(least=0), st_form=choice('sq', 'norm', 'mse'),
        skip=choice('student_detached', 'teacher', 'zeros'), whole_weight=number(least=0)),
    'mmkd.FeatureDistiller': dict(STRENGTH, pairs=pairs(required=True), mask_padding=PADDING,
                                  adapter=optional(choice('auto', 'conv1x1', 'conv1x1_bn'))),
    'mmkd.ReviewKDDistiller': dict(
        STRENGTH, pairs=pairs(required=True), hidden=optional(number(least=1, most=16384, whole=True)),
        levels=listed(number(least=1, most=1024, whole=True), different=True), mask_padding=PADDING),
    'mmkd.IFVDDistiller': dict(STRENGTH, pairs=ONE_PAIR, logits=ONE_PAIR, variation_weight=number(least=0),
                               logits_weight=number(least=0), ignore_index=number(least=0, whole=True)),
    'mmkd.LogitsDistiller': dict(
        STRENGTH, pairs=pairs(length=1, required=True),
        temperature=Documented(optional(number(above=1e-3, below=1e4)).fits, number(above=0).near),
        ignore_index=number(least=0, whole=True)),
}
SEARCH_HOOK = dict(dataloader=optional(LOADER), seed=number(least=0, whole=True),
                   out=Documented(lambda value: isinstance(value, str) and bool(value) and '/' not in value
                                  and value.endswith('.json') and value != '.json' and '\0' not in value,
                                  ['x.json', '.json', 'last_checkpoint', '', '.', '..', '/out.json',
                                   '../x.json', 'a/b.json', 'x', 'a\0b']))
HOOKS: Dict[str, Dict[str, Documented]] = {
    'mmkd.MatchingUpdateHook': dict(
        interval=optional(Documented(lambda value: number(above=0, whole=True).fits(value)
                                     or listed(number(above=0, whole=True)).fits(value),
                                     [1, 2, [1], [1, 2], 0, [0], 1.0, True]), 'auto'),
        by_epoch=FLAG, dataloader=optional(LOADER), num_images=number(above=0, whole=True),
        distillers=optional(Documented(listed(TEXT, different=True).fits, [['mgd'], ['mgd', 'mgd'], ['x'], 'mgd', []])),
        seed=number(least=0, whole=True)),
    'mmkd.ChannelsLastHook': dict(mode=choice('auto', 'on', 'off')),
    'mmkd.AggregationSearchHook': dict(
        SEARCH_HOOK, iterations=optional(Documented(lambda value: number(above=0, whole=True).fits(value)
                                                    or listed(number(above=0, whole=True)).fits(value),
                                                    [1, 2, [1, 1], [1, 1, 1, 1], 0, 100])),
        optimizer=Documented(lambda value: BLOCK.fits(value) and isinstance(value.get('type'), str), [
            dict(type='SGD', lr=.1), dict(type='Adam', lr=math.nan), dict(type='Adam', lr=-1), dict(lr=1), dict(type='X'),
            dict(type='Adam', lr='x'), dict(type='Adam', betas=5), dict(type='Adam', lr=math.inf)]),
        regularisation=number(least=0, below=1e6), weights_first=number(least=0, below=1), unrolled=FLAG),
    'mmkd.ProcessSearchHook': dict(
        SEARCH_HOOK, lr=optional(number(above=0, below=1e6), 'auto'), window=number(above=0, most=1e6, whole=True),
        rest=number(least=0, below=1), betas=listed(number(least=0, below=1), 2),
        hypergradient=choice('exact', 'finite_difference'), validation=choice('held_out', 'next_batch'),
        radius=number(above=0), interval=number(above=0, whole=True), unit=choice('iter', 'epoch'),
        every=optional(number(above=0, whole=True)), until=number(above=0, most=1)),
}
SEARCH = dict(split=optional(number(above=0, below=1)), hook=optional(BLOCK), distiller=optional(BLOCK),
              config=optional(BLOCK))
STUDENTS_KEYS = ('type', 'pretrained', 'train_cfg', 'test_cfg', '_scope_')
SEARCH_HOOK_OF = {'mmkd.DistProDistiller': 'mmkd.ProcessSearchHook', 'mmkd.AutoDistiller': 'mmkd.ProcessSearchHook',
                  'mmkd.FeatureAggregationDistiller': 'mmkd.AggregationSearchHook'}
