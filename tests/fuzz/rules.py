"""Of mutated configs: whose key it is, what names it, and what may not be accepted. Written from the documentation alone."""
from typing import Any, Dict, List, Tuple

from mmengine.config import Config

from . import documented
from .documented import Documented
from .losses import add_losses
from .mutations import MISSING, Mutation, Path, dotted, value_at

add_losses(documented.OPTIONS)
MODEL_TYPES = ('mmkd.DistilledModel', 'DistilledModel')
REPLAYS, MAKES_WEIGHTS = ('process', 'final'), ('process', 'final', 'constant', 'search')
NOT_SEARCHED = ('process', 'final', 'equal', 'constant')
SEARCHED = ('gamma_st', 'gamma_ts', 'st_form', 'skip', 'whole_weight')
DISTILLED = ('aggregation', 'distance', 'teacher_transform', 'transfer')
ONLY = {
    'mmkd.DistProDistiller': dict(
        process=('mode', REPLAYS), values=('mode', ('constant',)), normalisation=('mode', MAKES_WEIGHTS),
        bias=('mode', MAKES_WEIGHTS), tau=('mode', MAKES_WEIGHTS), pathway_map=('mode', REPLAYS),
        length=('mode', ('process',)), **dict.fromkeys(('every', 'scale_by_every', 'fraction'), ('mode', NOT_SEARCHED))),
    'mmkd.AutoDistiller': dict.fromkeys(('process', 'searched', 'online'), ('mode', ('train',))),
    'mmkd.FeatureAggregationDistiller': {
        **dict.fromkeys(SEARCHED, ('mode', ('search',))),
        **dict.fromkeys((*DISTILLED, *documented.STRENGTH), ('mode', ('distill',)))},
    'mmkd.MatchingGuidedDistiller': dict(
        divisor=('reduction', ('sum',)), seed=('reducer', ('random_drop', 'random_drop_channel')))}
"""By class and option: beside which values of another option it has a meaning."""
DEFAULTS: Dict[str, Any] = dict(mode={'mmkd.DistProDistiller': 'process', 'mmkd.AutoDistiller': 'train',
                                           'mmkd.FeatureAggregationDistiller': 'distill'}, reduction='sum',
                                reducer='absolute_max')
LOSSLESS = ('loss_weight', 'variation_weight')
RELATED = {
    'type': ['custom_hooks', 'ProcessSearchHook', 'AggregationSearchHook', 'MatchingUpdateHook', 'distillers', 'Registry',
             'registry', 'mmkd.'],
    'levels': ['connections', 'pathways', 'process'], 'connections': ['levels', 'pathways', 'process'],
    'transforms': ['pathways', 'process'], 'pairs': ['aggregation', 'stage_weights', 'groups', 'layers'],
    'mode': ['ProcessSearchHook', 'AggregationSearchHook', 'aggregation', 'process', 'has no meaning', 'values'],
    'every': ['begin', 'end', 'warmup', 'loss_scale', 'calibration_iters', 'scale_by_every'], 'scale_by_every': ['every'],
    'every_block': ['aggregation', 'pairs'], 'begin': ['end', 'loss_scale', 'warmup', 'every'],
    'end': ['begin', 'loss_scale', 'interval', 'warmup', 'every'],
    'custom_hooks': ['MatchingUpdateHook', 'hook'], 'distillers': ['custom_hooks', 'MatchingUpdateHook', 'distiller'],
    'teacher': ['model.'], 'config': ['model.teacher', 'process', 'aggregation'], 'overrides': ['model.teacher'],
    'train_dataloader': ['dataloader'], 'split': ['dataloader', 'ratio'], 'dataloader': ['split'],
    'default_scope': ['registry', 'scope'], 'image_shape': ['channels', 'image'],
    'interval': ['loss_weight', 'begin'], 'validation': ['interval'],
    'search': ['hook', 'distiller', 'config', 'dataloader']}
"""Keys that belong together: a message about one may name the other."""


def is_ours(mutation: Mutation) -> bool:
    """Whether what is changed is read by this package, not handed on to mm."""
    return all(_is_ours(path) for path in _changed(mutation))


def _changed(mutation: Mutation) -> List[Path]:
    return [mutation.path, mutation.value] if mutation.operation == 'swap' else [mutation.path]


def _is_ours(path: Path) -> bool:
    if path[:1] == ('model',):
        mm = path[1:2] and path[1] in ('student', 'data_preprocessor', *documented.STUDENTS_KEYS)
        return len(path) > 1 and (not mm or path == ('model', 'student'))
    if path[:1] == ('custom_hooks',):
        return len(path) > 2 and path[2] != 'type' and 'dataloader' not in path[3:]
    return path[:1] == ('search',) and not (len(path) > 2 and path[1] == 'config') and 'optimizer' not in path[:-1]


def naming(mutations: List[Mutation], content: Dict[str, Any]) -> List[str]:
    """Texts of which a message about the mutations has one: the key, its parent, what belongs to it, the value."""
    found: List[str] = []
    for mutation in mutations:
        for path in filter(None, _changed(mutation)):
            keys = [key for key in path if isinstance(key, str)]
            found += keys[-1:] if isinstance(path[-1], str) else [dotted(path), *keys[-1:]]
            for key in keys:
                found += RELATED.get(key, [])
            parents = range(len(path), 1 if _is_ours(path) else 0, -1)
            found += [dotted(path[:depth]) for depth in parents if path[:depth] != ('model', 'distillers')]
            kind = value_at(content, (*path[:2], 'type')) if path[:1] == ('custom_hooks',) else MISSING
            found += [kind.removeprefix('mmkd.')] if isinstance(kind, str) else []
            found += ['Hook.'] if path[:2] == ('search', 'hook') else []
            found += ['model.distillers'] if path[:2] == ('search', 'distiller') else []
            below = value_at(content, path)
            found += [str(key) for key in below] if isinstance(below, dict) else []
        if mutation.operation == 'delete':
            found += [dotted(mutation.path[:-1])]
        if mutation.operation == 'add' and isinstance(mutation.value, dict):
            found += [str(key) for key in mutation.value]
        if mutation.operation in ('replace', 'rename', 'add'):
            text = mutation.value if isinstance(mutation.value, str) else repr(mutation.value)[:60]
            found += [text] if len(text) > 2 else [repr(mutation.value)]
    return list(dict.fromkeys(name for name in found if name))


def without_distillation(content: Any, search: bool) -> Any:
    """The student's own config of a distilled one, or of the search that it describes."""
    if not isinstance(content, dict) or not isinstance(content.get('model'), dict):
        return content
    changes = (content.get('search') or {}).get('config') if isinstance(content.get('search') or {}, dict) else None
    if search and isinstance(changes, dict):
        cfg = Config(content)
        cfg.merge_from_dict(changes, allow_list_keys=False)
        content = cfg.to_dict()
    plain = {key: value for key, value in content.items() if key not in ('search',)}
    hooks = content.get('custom_hooks')
    if isinstance(hooks, list):
        plain['custom_hooks'] = [hook for hook in hooks if not isinstance(hook, dict)
                                 or not str(hook.get('type')).startswith('mmkd.')]
    model = content['model']
    if 'student' in model:
        student = model['student']
        if isinstance(student, dict):
            student = {**student, **{key: model[key] for key in ('pretrained', 'train_cfg', 'test_cfg') if key in model}}
        plain['model'] = student
    return plain


def nonsense(content: Dict[str, Any], one: Any, search: bool, facts: Dict[str, Any], mutations: List[Mutation]) -> List[str]:
    """Why a config should not have been accepted: nothing, where it is one that the documentation allows.

    Args:
        content: the mutated config.
        one: the shipped config that was mutated.
        search: whether its search was run.
        facts: what came of the run.
        mutations: what was changed.
    """
    found = [f'losses are not finite: {name}' for name in facts['not_finite'] if not _mm_loss(name, facts)]
    if not one.distilled:
        return []
    model = content.get('model')
    if not isinstance(model, dict) or model.get('type') not in MODEL_TYPES:
        return ['model is not a distilled one any more, and hooks and search are for one'] if 'distillers' in facts else []
    found += _block('model', {key: value for key, value in model.items() if key not in documented.STUDENTS_KEYS},
                    documented.OPTIONS['model'])
    teacher, teachers, distillers = model.get('teacher'), model.get('teachers'), model.get('distillers')
    if (teacher is None) == (teachers is None):
        found.append('one of model.teacher and model.teachers has to be given')
    for name, block in (teachers.items() if isinstance(teachers, dict) else ()):
        found += _block(f'model.teachers.{name}', block, _teacher_options(block))
    if isinstance(teacher, dict):
        found += _block('model.teacher', teacher, _teacher_options(teacher))
        same = teacher.get('config') == value_at(one.content, ('model', 'teacher', 'config'))
        random = teacher.get('allow_random_weights') is True
        if same and not random and not teacher.get('overrides') and not facts.get('teacher_as_saved'):
            found.append('the teacher does not have the weights of its checkpoint')
    for name, block in (distillers.items() if isinstance(distillers, dict) else ()):
        found += _distiller(name, block, facts if not search else {**facts, 'losses': [f'{name}.']})
        if search:  # both have to be right: the training follows
            found += _distiller(name, _as_searched(block, content), facts)
    if isinstance(distillers, dict) and list(distillers) != facts.get('distillers'):
        found.append(f'the distillers are {facts.get("distillers")}')
    if search:
        found += _search(content)
    else:
        found += _hooks(content.get('custom_hooks'))
    found += _order(mutations, one, model)
    found += [f'{name} is negative' for name in facts['negative'] if not _mm_loss(name, facts) and not _is_likelihood(
        distillers.get(name.partition('.')[0]) if isinstance(distillers, dict) else None)]
    return list(dict.fromkeys(found))


def _teacher_options(block: Any) -> Dict[str, Documented]:
    plain = isinstance(block, dict) and block.get('module') is not None
    return documented.OPTIONS['module teacher' if plain else 'teacher']


def _mm_loss(name: str, facts: Dict[str, Any]) -> bool:
    """Whether a loss is the student's own: mm's business."""
    return not any(name.startswith(f'{distiller}.') for distiller in facts.get('distillers') or ())


def _is_likelihood(block: Any) -> bool:
    """Whether a distiller's loss is a log-likelihood, which may be negative."""
    loss = block.get('loss') if isinstance(block, dict) else None
    return (loss.get('type') if isinstance(loss, dict) else loss) in ('vid', 'mmkd.VIDLoss')


def _block(path: str, block: Any, options: Dict[str, Documented]) -> List[str]:
    if not isinstance(block, dict):
        return [f'{path} is no dict']
    found = [f'{path}.{name} is no key' for name in block if name not in options]
    found += [f'{path}.{name} is missing' for name, option in options.items() if option.required and name not in block]
    return found + [f'{path}.{name} may not be {value!r:.80}' for name, value in block.items()
                    if name in options and not _fits(options[name], value)]


def _fits(option: Documented, value: Any) -> bool:
    try:
        return bool(option.fits(value))
    except (TypeError, ValueError):
        return False


def _distiller(name: Any, block: Any, facts: Dict[str, Any]) -> List[str]:
    path = f'model.distillers.{name}'
    if not isinstance(name, str) or not name.isidentifier() or 'loss' in name or name.startswith('_'):
        return [f'{name!r} is no name of a distiller']
    kind = block.get('type') if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind not in documented.OPTIONS or not kind.startswith('mmkd.'):
        return [f'{path}.type is {kind!r}']
    options = {key: value for key, value in block.items() if key != 'type'}
    found = _block(path, options, documented.OPTIONS[kind])
    for option, (other, values) in ONLY.get(kind, {}).items():
        default = DEFAULTS[other] if not isinstance(DEFAULTS[other], dict) else DEFAULTS[other][kind]
        if option in options and options[option] is not None and options.get(other, default) not in values:
            found.append(f'{path}.{option} has no meaning with {other}={options.get(other, default)!r}')
    if found:
        return found
    return [f'{path}: {problem}' for problem in _together(kind, options, facts) + _acts(name, kind, options, facts)]


def _together(kind: str, options: Dict[str, Any], facts: Dict[str, Any]) -> List[str]:
    """What does not fit together."""
    found, begin, end = [], options.get('begin', 0), options.get('end')
    if end is not None and end <= begin:
        found.append('end is not after begin')
    if begin >= facts['length']:
        found.append(f'begin {begin} is beyond the run of {facts["length"]} iterations')
    last, every = min(facts['length'], end or facts['length']), options.get('every', 1)
    acting = list(range(begin, last, every))
    if acting and options.get('loss_weight', 1) > 0:
        if begin + options.get('warmup', 0) > acting[-1] + 1:
            found.append('the weight never gets to its full height')
        if every > 1 and every >= last - begin:
            found.append(f'every {every} is not shorter than the {last - begin} iterations that are left')
    if every == 1 and options.get('scale_by_every') is False:
        found.append('scale_by_every without every')
    if options.get('calibration_iters') is not None and options.get('loss_scale') != 'auto':
        found.append('calibration_iters without loss_scale auto')
    weights = options.get('stage_weights')
    if weights is not None and (len(weights) != len(options['pairs']) or not any(weights)):
        found.append('stage_weights are not one for each pair, or all 0')
    if kind == 'mmkd.DistProDistiller' and options.get('mode') == 'constant' and options.get('values') is None:
        found.append('values is missing')
    if kind == 'mmkd.DistProDistiller' and options.get('levels') is None and options.get('members') is None:
        found.append('levels are missing')
    if options.get('mode') == 'search' and options.get('gamma_ts') == 0 and options.get('gamma_st', 1) in ('auto', 0):
        found.append('neither path has a weight')
    return found


def _acts(name: str, kind: str, options: Dict[str, Any], facts: Dict[str, Any]) -> List[str]:
    """Whether losses were logged where they should have been."""
    if options.get('mode') in ('search', 'constant', 'process', 'final') or any(options.get(key) == 0 for key in LOSSLESS):
        return []
    if kind == 'mmkd.DistProDistiller' and options.get('levels') is None:
        return []  # its members' losses stand under their own names
    logged = any(loss.startswith((f'{name}.', f'{name}_')) for loss in facts['losses'])
    return [] if logged else ['no loss of it was logged']


def _as_searched(block: Any, content: Dict[str, Any]) -> Any:
    """What the search makes of the block of a distiller, as docs/options.md says."""
    kind = block.get('type') if isinstance(block, dict) else None
    if kind not in documented.SEARCH_HOOK_OF:
        return block
    left_out = {**ONLY[kind]}
    kept = {key: value for key, value in block.items() if not (key in left_out and 'search' not in left_out[key][1])}
    changes = (content.get('search') or {}).get('distiller')
    return {**kept, **(changes if isinstance(changes, dict) else {}), 'mode': 'search'}


def _search(content: Dict[str, Any]) -> List[str]:
    search = content.get('search')
    found = _block('search', search, documented.SEARCH)
    if found:
        return found
    hook = search.get('hook') or {}
    if hook.get('validation') == 'next_batch' and (search.get('split') or hook.get('dataloader')):
        return ['search: nothing is held out for the next batch']
    blocks = content['model']['distillers']
    members = [str(name).partition('.')[0] for block in blocks.values() if isinstance(block, dict)
               for name in block.get('members') or ()]
    kinds = [block.get('type') for name, block in blocks.items() if isinstance(block, dict) and name not in members]
    of = [documented.SEARCH_HOOK_OF[kind] for kind in kinds if kind in documented.SEARCH_HOOK_OF]
    if len(of) != 1:
        return [f'{len(of)} distillers can be searched']
    found = ['search.hook.out is where the training looks'] if 'out' in hook else []
    return found + _block('search.hook', hook, documented.HOOKS[of[0]])


def _hooks(hooks: Any) -> List[str]:
    found: List[str] = []
    ours = [hook for hook in hooks or () if isinstance(hook, dict) and str(hook.get('type')).startswith('mmkd.')]
    for hook in ours:
        options = {key: value for key, value in hook.items() if key not in ('type', 'priority', '_scope_')}
        if hook['type'] in documented.HOOKS:
            found += _block(hook['type'], options, documented.HOOKS[hook['type']])
    updates = [hook for hook in ours if hook['type'] == 'mmkd.MatchingUpdateHook']
    names: Tuple[Any, ...] = tuple(tuple(hook.get('distillers') or ('all',)) for hook in updates)
    if len(updates) > 1 and ('all' in str(names) or len({name for each in names for name in each}) < sum(map(len, names))):
        found.append('several hooks update the same matching')
    return found


def _order(mutations: List[Mutation], one: Any, model: Dict[str, Any]) -> List[str]:
    """Lists of taps go from shallow to deep where their order has a meaning."""
    for mutation in mutations:
        key = mutation.path[-1] if mutation.path else None
        if key not in ('pairs', 'levels') or mutation.operation != 'replace':
            continue
        if not isinstance(mutation.value, (list, tuple)):
            continue
        before = value_at(one.content, mutation.path)
        block = value_at(dict(model=model), mutation.path[:-1])
        turned = len(before) > 1 and list(mutation.value) == list(before)[::-1]
        if turned and isinstance(block, dict) and _has_order(block):
            return [f'{key} are deep to shallow']
    return []


def _has_order(block: Dict[str, Any]) -> bool:
    if block.get('type') == 'mmkd.DistProDistiller':
        return isinstance(block.get('connections', 'lower_to_higher'), str) and block.get('connections') != 'all'
    if block.get('type') == 'mmkd.MatchingGuidedDistiller':
        return block.get('reduction', 'sum') == 'sum' and block.get('stage_weights') is None
    return block.get('type') == 'mmkd.FeatureAggregationDistiller'

