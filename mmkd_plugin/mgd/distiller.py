"""``mmkd.MatchingGuidedDistiller``: Matching Guided Distillation (Yue, Deng, Zhou, ECCV 2020)."""
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Union, cast

import torch
from mmengine.dist import all_reduce, broadcast, get_rank
from mmengine.logging import print_log
from torch import Tensor, nn

from ..distiller import Batch, BringsHook, Features, PairedDistiller, SeparatePairs
from ..losses import ValidArea, halving_weights, l2, mask_padding_option, masked_norm
from ..losses.distances import sum_of_squares
from ..losses.margins import margins_from_norm, margins_from_sums, negative_sums, partial_target
from ..registry import MODELS
from ..taps import TapInfo
from ..taps.shapes import as_map, by_parts, map_size, resize, widened
from ..utils.errors import DistillationError
from ..utils.options import SEED, Choice, Either, ListOf, Number, option
from ..utils.records import Array, ChecksState, Entry
from .matching import SURPLUS_CHOICES, assign, assignment_cost, cost_matrix, group_shape, similarity_sum
from .norm import NormConfig, build_norm
from .reduction import RANDOM_REDUCERS, REDUCERS, gather_groups, only_member

MARGIN_CHOICES = ('auto', 'norm', 'data', 'none')
REDUCTION_CHOICES = ('sum', 'mean')
PAPER_AREA = 224 * 224


@MODELS.register_module()
class MatchingGuidedDistiller(SeparatePairs, ChecksState, BringsHook):
    """Compares student channels with the teacher channels that were matched to them.

    Which channels belong together is found by :class:`MatchingUpdateHook`; a config that has none beside this distiller gets
    one with ``interval='auto'``. The matching, the margins and the extra norms are kept in the checkpoint.

    Losses: ``loss_<stage>`` for each pair.

    Where the widths or the resolutions do not fit: a student wider than its teacher is matched one-to-many
    (:func:`~mmkd_plugin.mgd.matching.assign_shared`); a teacher feature of another resolution is resized to the
    student's (:func:`~mmkd_plugin.taps.shapes.resize`).

    Raises:
        DistillationError: for options that do not fit.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(PairedDistiller.Options):
        """The options of Matching Guided Distillation."""
        reducer: str = option(
            Choice(tuple(REDUCERS)), 'absolute_max', "'absolute_max' (AMP, what the authors use), 'random_drop' (RD), "
            "'sparse' (SM), 'simple_max', 'signed_max' (AMP as released before 2021-03-04) or 'random_drop_channel'")
        norm: Union[str, Dict[str, Any], None] = option(
            NormConfig(), dict(type='BN'), "extra norm on the student's features inside the loss: 'BN' (the paper's for "
            "classification), 'GN' (for detection), 'SyncBN', 'IN'. It is trained, and not part of the student")
        margin: str = option(
            Choice(MARGIN_CHOICES), 'auto', "'norm' from the batch norm before the teacher's tap, 'data' from the mean "
            "negative response, measured in the first matching update, 'none' for no clamping; 'auto' is 'norm' where there "
            "is a batch norm and 'data' elsewhere")
        reduction: str = option(
            Choice(REDUCTION_CHOICES), 'sum', "'sum': the paper's, the sum divided by `batch size * divisor`, at other "
            "input sizes than 224x224 by the area in proportion. 'mean': over all elements, for dense prediction")
        divisor: float = option(Number(above=1e-4, below=1e12), 1e4, 'of the sum', dict(reduction=('sum',)))
        stage_weights: Optional[List[float]] = option(
            Either(ListOf(Number(least=0), 'numbers >= 0, one for each pair'), (None,)), None,
            "weight of each pair; by default 1 / 2^(L - 1 - i) with 'sum' (the paper's) and 1 with 'mean'")
        surplus: str = option(
            Choice(SURPLUS_CHOICES), 'shave', "for teacher widths that are no multiple of the student's: 'shave' never uses "
            "the last channels (the authors'), 'select' leaves out those that cost most")
        seed: int = option(SEED, 0, 'of the random reducers, which draw from a generator of their own',
                           dict(reducer=RANDOM_REDUCERS))
        mask_padding: Optional[bool] = mask_padding_option()

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            weights = self.stage_weights
            if weights is not None and (len(weights) != len(self.pairs) or not any(weights)):
                raise DistillationError(path='stage_weights', given=weights,
                                        accepted=f'a list of {len(self.pairs)} numbers, one for each pair, not all 0')

    options: Options
    update_hook: ClassVar[str] = 'mmkd.MatchingUpdateHook'

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.valid_area = ValidArea(self.options.mask_padding)
        summed = self.options.reduction == 'sum'
        default = halving_weights(len(self.pairs)) if summed else [1.0] * len(self.pairs)
        self.stage_weights = self.options.stage_weights or default
        self.stages = nn.ModuleList()

    def matched_stages(self) -> List['MatchedStage']:
        """The state of each pair, in the order of ``pairs``."""
        return cast(List[MatchedStage], list(self.stages))

    def prepare(self, student: Mapping[str, TapInfo], teacher: Mapping[str, TapInfo]) -> None:
        assert not isinstance(self.options.norm, str), 'a name has been read as a norm_cfg'
        norm = None if self.options.norm is None else dict(self.options.norm)
        for (student_tap, teacher_tap), loss_name in zip(self.pairs, self.loss_names):
            stage = MatchedStage(loss_name.removeprefix('loss_'), student[student_tap], teacher[teacher_tap], norm,
                                 self.options.reducer == 'sparse', self.options.margin)
            self.stages.append(stage)
            if stage.margin_source == 'data':
                print_log(f"{self.path}: no batch norm comes directly before the teacher's tap {teacher_tap!r}; its margins "
                          'are the mean negative responses, measured in the first matching update', 'current')

    def hook(self) -> Dict[str, Any]:
        return dict(type='mmkd.MatchingUpdateHook', interval='auto', distillers=[self.name])

    def state_entries(self) -> Dict[str, Entry]:
        return {f'stages.{number}.assignment': Array(torch.long, tuple(stage.assignment.shape), least=0,
                                                     below=len(stage.margins))
                for number, stage in enumerate(self.matched_stages())}

    def describe(self) -> str:
        return f'{self.options.reducer}, {super().describe()}'

    def loss_parameters(self, name: str) -> Iterable[nn.Parameter]:
        return self.stages[self.loss_names.index(name)].parameters()

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Dict[str, Tensor]:
        self.valid_area.refuse_norms_over_ranks(batch, self.stages, 'norm', "'GN', 'BN', 'IN', None")
        losses = {}
        for number, ((student_tap, teacher_tap), stage) in enumerate(zip(self.pairs, self.matched_stages())):
            if self.loss_names[number] in self.left_out:
                continue
            source = widened(as_map(student[student_tap]))
            # Reduced in the teacher's own precision: choosing is exact in any, and only the result is widened.
            feature = resize(as_map(teacher[teacher_tap]), source.shape[2:])
            valid = self.valid_area.cells(batch, map_size(source))
            normed = masked_norm(stage.norm, source, valid)
            loss = self._reduced(normed, self._target(stage, normed, feature, number, batch.iteration), valid, batch)
            losses[f'loss_{stage.name}'] = loss * self.stage_weights[number]
        return losses

    def _target(self, stage: 'MatchedStage', student: Tensor, teacher: Tensor, number: int, iteration: int) -> Tensor:
        """What the student's normed feature is compared with, in its shape and without gradient."""
        if not stage.matched:
            raise DistillationError('has no matching yet',
                                    hint="Add dict(type='mmkd.MatchingUpdateHook', interval=...) to custom_hooks.")
        margins = stage.margins[stage.assignment]
        reducer = only_member if margins.shape[1] == 1 else REDUCERS[self.options.reducer]
        generator = None
        if reducer is not only_member and self.options.reducer in RANDOM_REDUCERS:
            # A function of the iteration, so that attaching draws nothing from the run's generators and resuming goes on.
            generator = torch.Generator(teacher.device)
            generator.manual_seed(hash((self.options.seed, iteration, number, get_rank())) % 2 ** 63)

        def target(ours: Tensor, theirs: Tensor) -> Tensor:
            reduced, margin = reducer(gather_groups(theirs, stage.assignment), margins, generator)
            return partial_target(ours, widened(reduced), margin)

        # What is drawn, is drawn for the whole batch at once.
        return target(student, teacher) if generator is not None else by_parts(target, student.detach(), teacher.detach())

    def _reduced(self, student: Tensor, target: Tensor, valid: Optional[Tensor], batch: Batch) -> Tensor:
        if self.options.reduction == 'mean':
            return l2(student, target, valid)
        area = math.prod(batch.image_size)
        total = sum_of_squares(student, target) if valid is None else ((student - target).square() * valid).sum()
        return total / (student.shape[0] * self.options.divisor * area / PAPER_AREA)

    def start_update(self) -> List['StageStatistics']:
        """Fresh accumulators, one per pair, for a matching update."""
        return [StageStatistics(stage) for stage in self.matched_stages()]

    def accumulate(self, statistics: List['StageStatistics'], student: Features, teacher: Features,
                   batch: Batch) -> None:
        """Adds a batch of features to the accumulators; everything stays on the device."""
        for (student_tap, teacher_tap), stage_statistics in zip(self.pairs, statistics):
            ours, theirs = as_map(student[student_tap]), as_map(teacher[teacher_tap])
            stage_statistics.add_negative(theirs, self.valid_area.cells(batch, map_size(theirs)))
            theirs = resize(theirs, ours.shape[2:])
            stage_statistics.add(ours, theirs, self.valid_area.cells(batch, map_size(ours)))

    def finish_update(self, statistics: List['StageStatistics']) -> Dict[str, float]:
        """Averages over ranks, solves, and puts the new matching in place. Returns the mean cost per pair by stage name.

        Rank 0 solves, the others receive its solution.

        Raises:
            DistillationError: if no image was seen, or a feature was not finite.
        """
        costs = {}
        for stage, stage_statistics in zip(self.matched_stages(), statistics):
            cost = stage_statistics.cost()
            if not bool(cost.isfinite().all()):
                raise DistillationError(f'the matching cost of stage {stage.name} is not finite: the student or the teacher '
                                        'gives NaN or infinity', path=self.path)
            solution = torch.empty_like(stage.assignment)
            if get_rank() == 0:
                solution.copy_(assign(cost, single=self.options.reducer == 'sparse', surplus=self.options.surplus))
            broadcast(solution)
            stage.assignment.copy_(solution)
            if stage.margin_source == 'data' and not stage.matched:
                stage.margins.copy_(stage_statistics.margins())  # once: the teacher does not change
            stage.matched_flag.fill_(True)
            stage.matched = True
            costs[stage.name] = assignment_cost(cost, stage.assignment) / stage.assignment.numel()
        return costs


class MatchedStage(nn.Module):
    """State of one pair: the extra norm, the assignment (C_s, g) and the teacher's margins (C_t,).

    Args:
        name: the stage's name, for the log.
        student, teacher: what the dry run found out about the two taps.
        norm_cfg: config of the extra norm, None for no norm.
        single: one teacher channel per student channel (SM).
        margin: one of MARGIN_CHOICES.
    """
    assignment: Tensor
    matched_flag: Tensor
    margins: Tensor

    def __init__(self, name: str, student: TapInfo, teacher: TapInfo, norm_cfg: Optional[Dict[str, Any]], single: bool,
                 margin: str):
        super().__init__()
        self.name = name
        self.norm = nn.Identity() if norm_cfg is None else build_norm(norm_cfg, student.channels)
        shape = group_shape(student.channels, teacher.channels, single)
        self.register_buffer('assignment', torch.zeros(shape, dtype=torch.long))
        self.register_buffer('matched_flag', torch.zeros((), dtype=torch.bool))
        self.matched = False  # the flag's value on the host, so that asking costs no sync
        self.register_buffer('margins', torch.zeros(teacher.channels))
        if margin == 'norm' and teacher.norm is None:
            raise DistillationError(f'finds no batch norm with {teacher.channels} channels directly before the '
                                    f"teacher's tap {teacher.address!r}", path='margin', given='norm',
                                    accepted="'data', 'none', 'auto'")
        self.margin_source = ('norm' if teacher.norm is not None else 'data') if margin == 'auto' else margin
        if self.margin_source == 'norm':
            assert teacher.norm is not None
            self.margins.copy_(margins_from_norm(teacher.norm.weight, teacher.norm.bias))
        elif self.margin_source == 'none':
            self.margins.fill_(-math.inf)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.matched = bool(self.matched_flag)


class StageStatistics:
    """Running sums of one matching update for one pair, on the device; released with the update."""

    def __init__(self, stage: MatchedStage):
        self._stage = stage
        self._samples = 0
        self._similarity: Optional[Tensor] = None
        self._negative: Optional[Tensor] = None

    def add_negative(self, teacher: Tensor, valid: Optional[Tensor]) -> None:
        """Negative responses of the teacher, (B, C_t, H, W), at valid cells, where margins are still to be measured."""
        if self._stage.margin_source == 'data' and not self._stage.matched:
            counting = teacher if valid is None else teacher * valid
            self._negative = _add(self._negative, negative_sums(counting))

    def add(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor]) -> None:
        """Similarity of features (B, C, H, W) of one resolution, over valid cells (B, 1, H, W)."""
        if valid is not None:
            student, teacher = student * valid, teacher * valid  # cells of 0 have no part in a cosine
        self._similarity = _add(self._similarity, similarity_sum(student, teacher))
        self._samples += student.shape[0]

    def cost(self) -> Tensor:
        """The averaged cost D (C_s, C_t) over the images of all ranks."""
        if self._similarity is None:
            raise DistillationError('the matching update has seen no image')
        similarity = self._similarity.clone()
        samples = torch.tensor(float(self._samples), device=similarity.device)
        all_reduce(similarity)
        all_reduce(samples)
        return cost_matrix(similarity, samples)

    def margins(self) -> Tensor:
        """Mean negative responses (C_t,) over the images of all ranks."""
        assert self._negative is not None, 'asked for where they are to be measured, after an image'
        sums = self._negative.clone()
        all_reduce(sums)
        return margins_from_sums(sums)


def _add(total: Optional[Tensor], value: Tensor) -> Tensor:
    if total is None:
        total = torch.zeros_like(value, dtype=torch.float32 if value.device.type == 'mps' else torch.float64)
    return total.add_(value)


