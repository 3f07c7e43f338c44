"""The methods by their names on the command line: what stands in a config for each, and why."""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config
from torch import nn

from ..auto.pools import PATHWAYS, POOLS, levels
from ..dfa.groups import has_blocks
from ..taps.places import Place
from ..taps.suggestions import PlacePair, addresses, suggest_levels, suggest_logits, suggest_pairs
from ..utils.errors import DistillationError, unknown_name
from .schedules import length_of, shortened_length, shortened_schedule

CLASSIFICATION, SEGMENTATION, DETECTION, OTHER = 'classification', 'segmentation', 'detection', 'other'
SMALL_BATCH = 8
"""Images on a GPU below which the statistics of a batch norm are not to be trusted."""
UNIT_OF_BETA, LEAST_LR, MOST_LR = 4.0, 5e-4, 5e-2
"""DFA's lr times the iterations of a group: its docs ask for 2 to 10; and the bounds of that lr."""


MEMBERS = dict(
    kd='a member of the pool: KL of the class scores', dist='a member of the pool: correlations of the class scores',
    cwd='a member of the pool: where in the image each class scores', mgd='a member of the pool: the stages of the same '
    'strides, matched channel by channel', pkd='a member of the pool: the levels of both necks, by correlation',
    hcl="a member of the pool: DistPro's pathways between the last stages")
"""Why each loss is in the pool of ``mmkd.AutoDistiller``."""
OF_SCORES = dict(classification=('kd', 'dist'), segmentation=('cwd', 'kd'))
"""By task, the losses of that pool that need class scores."""


@dataclass(frozen=True)
class Decision:
    """Something the command has decided.

    Attributes:
        key: where it stands in a config.
        value: what was decided.
        reason: why.
    """
    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Situation:
    """What the decisions follow from.

    Attributes:
        cfg: the config of the student's training.
        student, teacher: their places.
        teacher_model: the teacher itself.
        task: one of classification, segmentation, detection, other.
        batch_size: images on a GPU.
        iterations: how long the training is, None where that is not known.
        sync: whether the student synchronises its batch norms.
    """
    cfg: Config
    student: List[Place]
    teacher: List[Place]
    teacher_model: nn.Module
    task: str
    batch_size: int
    iterations: Optional[int]
    sync: bool

    @property
    def dense(self) -> bool:
        """Whether something is predicted for every place of an image."""
        return self.task != CLASSIFICATION

    def stages(self, method: str) -> List[PlacePair]:
        """Pairs of stages. Raises :class:`DistillationError` where there are none."""
        found = suggest_pairs(self.student, self.teacher)
        if not found:
            raise DistillationError('finds no stage of the student before which something is trained, and of the teacher '
                                    'with features', path='--method', given=method, hint='Look at `mmkd taps`.')
        return found

    def logits(self, method: str) -> PlacePair:
        """The pair of class scores. Raises :class:`DistillationError` where there is none."""
        found = suggest_logits(self.student, self.teacher)
        if found is None:
            raise DistillationError('compares class scores, and there are none that can be tapped in both, with as many '
                                    'classes', path='--method', given=method, accepted='a method of features: mgd, pkd, '
                                    'cwd, l2', hint='What several levels share runs several times, and cannot be tapped.')
        return found


@dataclass
class Plan:
    """What stands in the config.

    Attributes:
        distillers: by name.
        decisions: all of them, with their reasons.
        search: the block of the search, where a method has one.
    """
    distillers: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    decisions: List[Decision] = field(default_factory=list)
    search: Optional[Dict[str, Any]] = None

    def put(self, name: str, key: str, value: Any, reason: str) -> None:
        """Decides one option of a distiller."""
        self.distillers.setdefault(name, {})[key] = value
        if reason:
            self.decisions.append(Decision(f'{name}.{key}', value, reason))


def make_plan(methods: Sequence[str], situation: Situation) -> Plan:
    """The distillers of some methods, for a student and a teacher.

    Args:
        methods: names, see ``METHODS``.
        situation: what the decisions follow from.

    Raises:
        DistillationError: for a name that is not known or there twice, a method that is not for these models, or two that
            both search.
    """
    plan = Plan()
    for name in methods:
        if name not in METHODS:
            raise unknown_name('--method', name, METHODS)
        if name in plan.distillers:
            raise DistillationError('is there twice', path='--method', given=name, accepted='each method once')
        if name in SEARCHED and plan.search is not None:
            raise DistillationError('searches, as another one does', path='--method', given=name,
                                    accepted='one of distpro and dfa')
        METHODS[name](plan, name, situation)
    return plan


def _mgd(plan: Plan, name: str, situation: Situation) -> None:
    plan.put(name, 'type', 'mmkd.MatchingGuidedDistiller', '')
    pairs = situation.stages(name)
    plan.put(name, 'pairs', addresses(pairs, before_activation=True), _said(pairs, 'before their last activation'))
    if situation.dense:
        plan.put(name, 'reduction', 'mean', f'{situation.task}: the sum of the paper is for images of 224x224')
    norm, reason = _extra_norm(situation)
    if norm != 'BN':
        plan.put(name, 'norm', norm, reason)
    else:
        plan.decisions.append(Decision(f'{name}.norm', norm, f'{reason} (the default)'))
    plan.decisions.append(Decision('MatchingUpdateHook', dict(interval='auto', num_images=1000), 'added when training '
                                   'begins: a matching at the start and after each fifth of the run, with fewer images '
                                   'where fewer are trained on in a fifth'))
    _scaled(plan, name)


def _extra_norm(situation: Situation) -> Tuple[str, str]:
    size = situation.batch_size
    if situation.task == DETECTION:
        return 'GN', 'detection, as in the paper: the few images of a batch are padded'
    if situation.sync:
        return 'SyncBN', "as the student's own norms"
    if size < SMALL_BATCH:
        return 'GN', f'batches of {size} images are too small for the statistics of a batch norm'
    return 'BN', f'batches of {size} images'


def _features(loss: str) -> Callable[[Plan, str, Situation], None]:
    def method(plan: Plan, name: str, situation: Situation) -> None:
        levels = suggest_levels(situation.student, situation.teacher)
        logits = suggest_logits(situation.student, situation.teacher) if loss == 'cwd' and situation.dense else None
        plan.put(name, 'type', 'mmkd.FeatureDistiller', '')
        if logits is not None:
            plan.put(name, 'pairs', addresses([logits]), 'the scores of every pixel, as in the paper')
        elif levels:
            plan.put(name, 'pairs', addresses(levels), _said(levels, 'of both necks'))
        else:
            stages = situation.stages(name)
            plan.put(name, 'pairs', addresses(stages), _said(stages))
        plan.put(name, 'loss', loss, '')
        _scaled(plan, name)
    return method


def _kd(plan: Plan, name: str, situation: Situation) -> None:
    plan.put(name, 'type', 'mmkd.LogitsDistiller', '')
    plan.put(name, 'pairs', addresses([situation.logits(name)]), 'the last layer with a score for each class')
    if not situation.dense:
        plan.put(name, 'temperature', 4.0, 'classification: the usual one')
    _scaled(plan, name)


def _dist(plan: Plan, name: str, situation: Situation) -> None:
    plan.put(name, 'type', 'mmkd.LogitsDistiller', '')
    plan.put(name, 'pairs', addresses([situation.logits(name)]), 'the last layer with a score for each class')
    plan.put(name, 'loss', 'dist', '')
    _scaled(plan, name)


def _reviewkd(plan: Plan, name: str, situation: Situation) -> None:
    stages = situation.stages(name)
    plan.put(name, 'type', 'mmkd.ReviewKDDistiller', '')
    plan.put(name, 'pairs', addresses(stages, before_activation=True), _said(stages, 'before their last activation'))
    _scaled(plan, name)


def _distpro(plan: Plan, name: str, situation: Situation) -> None:
    stages = situation.stages(name)
    plan.put(name, 'type', 'mmkd.DistProDistiller', '')
    plan.put(name, 'levels', addresses(stages, before_activation=True), _said(stages, 'before their last activation'))
    _scaled(plan, name)
    changes: Dict[str, Any] = dict(train_cfg=shortened_length(situation.cfg))
    schedule = shortened_schedule(situation.cfg)
    if schedule is not None:
        changes['param_scheduler'] = schedule
    plan.search = dict(config=changes)
    plan.decisions.append(Decision('search.config.train_cfg', changes['train_cfg'], 'a quarter of the training, its '
                                   'schedule with it; what is found is stretched to the whole'))


def _dfa(plan: Plan, name: str, situation: Situation) -> None:
    stages = situation.stages(name)
    pairs: List[Any] = [(ours, theirs if has_blocks(situation.teacher_model, theirs) else f'{theirs}@end')
                        for ours, theirs in addresses(stages)]
    plan.put(name, 'type', 'mmkd.FeatureAggregationDistiller', '')
    plan.put(name, 'pairs', pairs, _said(stages, 'with all blocks of the teacher'))
    if any(ours.stride != theirs.stride for ours, theirs in stages):
        plan.put(name, 'resize', True, 'their resolutions differ')
    _scaled(plan, name)
    length = shortened_length(situation.cfg)
    plan.search = dict(split=0.7)
    iterations = situation.iterations
    if iterations is not None:
        share = next(iter(length.values())) / max(1, length_of(situation.cfg)[1])
        each = max(1, round(iterations * share * (0.7 if 'max_epochs' in length else 1) / len(pairs)))
        lr = float(f'{min(MOST_LR, max(LEAST_LR, UNIT_OF_BETA / each)):.1g}')
        plan.search['hook'] = dict(optimizer=dict(type='Adam', lr=lr, betas=(0.5, 0.999)))
        plan.decisions.append(Decision('search.hook.optimizer.lr', lr, f'lr x iterations of a group is to be 2 to 10; a '
                                       f'group has about {each}'))
    plan.search['config'] = dict(train_cfg=length, param_scheduler=None)
    plan.decisions.append(Decision('search.config.train_cfg', length, 'a quarter of the training, at a constant learning '
                                   'rate: the weights are shared by the groups, which come one after the other'))


def _auto(plan: Plan, name: str, situation: Situation) -> None:
    pool: Dict[str, Any] = {}
    if situation.task in POOLS:
        pool = {member: block['pairs'] for member, block in POOLS[situation.task](situation.student,
                                                                                  situation.teacher).items()}
        pathways = levels(situation.student, situation.teacher)
        pool.update({PATHWAYS: pathways} if pathways else {})
        if not pool:
            raise DistillationError(f'finds nothing to compare in these networks (as {situation.task})', path='--method',
                                    given=name, hint='Look at `mmkd taps`.')
    listed = f': {", ".join(pool)}' if pool else ''
    plan.put(name, 'type', 'mmkd.AutoDistiller', 'when training begins it finds its taps itself, and brings each loss to '
             f'one strength; all weigh the same{listed}')
    plan.decisions += [Decision(f'{name}_{member}' if member != PATHWAYS else name, pairs, MEMBERS[member])
                       for member, pairs in pool.items()]
    for member in [member for member in OF_SCORES.get(situation.task, ()) if pool and member not in pool]:
        plan.decisions.append(Decision(f'{name}_{member}', None, 'not in the pool: there are no class scores that can be '
                                       'tapped in both, with as many classes'))


def _scaled(plan: Plan, name: str) -> None:
    plan.put(name, 'loss_scale', 'auto', 'loss_weight=1 is as strong as the task loss, on any task')


def _said(pairs: Sequence[PlacePair], more: str = '') -> str:
    strides = [f'{ours.stride}' if ours.stride == theirs.stride else f'{ours.stride} and {theirs.stride}'
               for ours, theirs in pairs]
    kind = 'levels' if pairs[0][0].kind == 'neck' else 'last stages'
    return f'the {kind} of stride {", ".join(strides)}{" " + more if more else ""}'


METHODS: Dict[str, Callable[[Plan, str, Situation], None]] = dict(
    mgd=_mgd, distpro=_distpro, dfa=_dfa, kd=_kd, cwd=_features('cwd'), pkd=_features('pkd'), dist=_dist,
    reviewkd=_reviewkd, l2=_features('l2'), auto=_auto)
SEARCHED = ('distpro', 'dfa')
