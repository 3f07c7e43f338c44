"""Contrastive representation distillation (CRD, Tian, Krishnan, Isola, ICLR 2020), with its memory of the whole data set."""
import math
from dataclasses import dataclass
from typing import Any, ClassVar, List, Optional, Tuple

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor, nn

from ..registry import MODELS
from ..taps import TapInfo
from ..utils.errors import DistillationError
from ..utils.kinds import TEMPERATURE
from ..utils.options import SEED, Number, option
from .base import FeatureLoss
from .batch import Batch
from .cells import only_valid

EPS = 1e-7


def unit_rows(embedding: Tensor) -> Tensor:
    """(B, D), each row divided by its norm."""
    unit: Tensor = embedding / embedding.norm(dim=1, keepdim=True)
    return unit


def contrast_scores(embedding: Tensor, memory: Tensor, indices: Tensor, temperature: float = 0.07) -> Tensor:
    """``exp(e . m_j / tau)``, not yet divided by Z.

    Args:
        embedding: (B, D), rows of norm 1.
        memory: (n, D), the other network's; no gradient reaches it.
        indices: (B, 1 + K) int64: the rows that are compared, the positive first.
        temperature: tau.

    Returns:
        (B, 1 + K).
    """
    # With all rows, of which some are taken: gathering B * (1 + K) rows would be slower, and larger than all.
    return torch.exp((embedding @ memory.detach().T).gather(1, indices) / temperature)


def contrastive(scores: Tensor, size: int) -> Tensor:
    """The loss of one direction: is a pair of the same image, or one of the K noise pairs?

    ``-mean over images of [log(P / (P + K/n + eps)) + sum over negatives of log((K/n) / (P + K/n + eps))]``.

    Args:
        scores: (B, 1 + K), the positive first: P, :func:`contrast_scores` over their Z.
        size: n, how many images the data set has.
    """
    noise = (scores.shape[1] - 1) / size
    positive = torch.log(scores[:, 0] / (scores[:, 0] + noise + EPS))
    negative = torch.log(noise / (scores[:, 1:] + noise + EPS))
    return -(positive + negative.sum(1)).mean()


def normaliser(scores: Tensor, size: int) -> Tensor:
    """Z, kept from the first batch on: the mean score times n. No gradient passes."""
    return scores.detach().mean() * size


@torch.no_grad()
def updated_rows(memory: Tensor, embedding: Tensor, indices: Tensor, momentum: float = 0.5) -> Tensor:
    """Rows of the memory after a batch: ``momentum * old + (1 - momentum) * embedding``, of norm 1; (B, D).

    Args:
        memory: (n, D).
        embedding: (B, D).
        indices: (B,) int64, the rows.
        momentum: the share of the old.
    """
    return unit_rows(momentum * memory[indices] + (1 - momentum) * embedding)


def contrast(student: Tensor, teacher: Tensor, memories: Tuple[Tensor, Tensor], indices: Tensor,
             normalisers: Tuple[Tensor, Tensor], temperature: float = 0.07) -> Tuple[Tensor, Tensor]:
    """Both directions: the student's embeddings against the teacher's memory, the teacher's against the student's.

    Args:
        student, teacher: (B, D) embeddings, rows of norm 1.
        memories: the student's and the teacher's, (n, D) each.
        indices: (B, 1 + K) int64, the positive first.
        normalisers: Z of both directions.
        temperature: tau.
    """
    size = len(memories[0])
    ours = contrast_scores(student, memories[1], indices, temperature) / normalisers[0]
    theirs = contrast_scores(teacher, memories[0], indices, temperature) / normalisers[1]
    return contrastive(ours, size), contrastive(theirs, size)


def drawn_negatives(indices: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """The rows that are compared: each image's own, then ``count`` of other images, drawn evenly (an image may come twice).

    Args:
        indices: (B,) int64, the images.
        count: K.
        size: n, how many images there are.
        generator: what they are drawn from, of the device of ``indices``.

    Returns:
        (B, 1 + K) int64.
    """
    shift = torch.randint(1, size, (len(indices), count), generator=generator, device=indices.device)
    return torch.cat([indices[:, None], (indices[:, None] + shift) % size], 1)


def pooled(feature: Tensor, valid: Optional[Tensor]) -> Tensor:
    """(B, C): the mean of the cells of (B, C, H, W) that count; all where ``valid`` (B, 1, H, W) is None."""
    if valid is None:
        return feature.mean((2, 3))
    return only_valid(feature, valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)


def sample_numbers(batch: Optional[Batch], size: int) -> List[int]:
    """The number of each image of a batch in its data set, from 0 on.

    Args:
        batch: the batch.
        size: how many images there are.

    Raises:
        DistillationError: where the data samples do not say it, or one is ``size`` or more.
    """
    samples = None if batch is None else batch.data_samples
    known: Any = samples if isinstance(samples, (list, tuple)) and all(hasattr(sample, 'get') for sample in samples) else ()
    numbers = [sample.get('sample_idx') for sample in known]
    if not numbers or any(number is None for number in numbers):
        raise DistillationError(
            'the loss needs to know which image of the data set each is, and the data samples do not say it (sample_idx)',
            path='loss', given='mmkd.CRDLoss', hint="Add 'sample_idx' to meta_keys of the transform that packs the data "
            '(PackInputs, PackSegInputs, PackDetInputs).')
    if max(numbers) >= size:
        raise DistillationError(f'is too few: the data set has an image with the number {max(numbers)}', path='loss.images',
                                given=size, accepted='how many images the training set has')
    return [int(number) for number in numbers]


@MODELS.register_module()
class CRDLoss(FeatureLoss):
    """Contrastive representation distillation (Tian, Krishnan, Isola, ICLR 2020): :func:`contrast`, both directions added.

    Student and teacher are embedded by a linear layer each (of a map: of the mean of its cells), both of which are trained
    with the student. Beside the own image's, ``negatives`` embeddings of others are drawn from a memory of all images, which
    is in the checkpoint: ``2 * images * width`` numbers. The authors draw them among images of other classes; here they are
    of any other image, as where there are no labels. A step takes ``2 * images * (B + width)`` numbers more.

    Data samples have to say which image of the data set they are (``sample_idx``): those of mmpretrain do; for the others
    ``'sample_idx'`` belongs into ``meta_keys`` of the transform that packs them. Data sets that are joined (ConcatDataset)
    count their images from 0 each, so theirs would be taken for one another. Under DDP every rank has the whole memory and
    takes what all ranks have seen into it, so that it is the same on all.

    Raises:
        DistillationError: for a batch without these numbers, or with one from ``images`` on.

    In a config::

        crd=dict(type='mmkd.FeatureDistiller', pairs=['neck'], loss=dict(type='mmkd.CRDLoss', images=50000), loss_weight=0.8)
    """
    short = 'crd'
    widths: ClassVar[str] = 'any'
    memory_student: Tensor
    memory_teacher: Tensor
    normalisers: Tensor
    _has_normalisers = False  # on the host, so that asking costs no sync

    @dataclass(frozen=True, kw_only=True)
    class Options(FeatureLoss.Options):
        """The options of contrastive representation distillation."""
        images: int = option(Number(least=2, most=2 ** 24, whole=True), doc='how many images the training set has')
        width: int = option(Number(least=1, most=16384, whole=True), 128, 'of the embeddings')
        negatives: int = option(Number(least=1, most=2 ** 20, whole=True), 16384, 'how many other images each is compared '
                                'with')
        temperature: float = option(TEMPERATURE, 0.07, 'tau')
        momentum: float = option(Number(least=0, below=1), 0.5, 'the share of the old in what the memory keeps of an image')
        seed: int = option(SEED, 0, 'of the first memory, and of the images that are drawn')

    options: Options

    def prepare(self, student: TapInfo, teacher: TapInfo) -> None:
        self.embed_student = nn.Linear(student.channels, self.options.width)
        self.embed_teacher = nn.Linear(teacher.channels, self.options.width)
        shape, bound = (self.options.images, self.options.width), 1 / math.sqrt(self.options.width / 3)
        generator = torch.Generator().manual_seed(self.options.seed)
        for side in ('student', 'teacher'):
            self.register_buffer(f'memory_{side}', torch.rand(shape, generator=generator) * 2 * bound - bound)
        self.register_buffer('normalisers', torch.zeros(2))

    def forward(self, student: Tensor, teacher: Tensor, valid: Optional[Tensor] = None,
                batch: Optional[Batch] = None) -> Tensor:
        # Made on the host and sent after what is queued there: the device is not waited for.
        images = torch.tensor(sample_numbers(batch, self.options.images)).to(student.device, non_blocking=True)
        ours = unit_rows(self.embed_student(pooled(student, valid)))
        theirs = unit_rows(self.embed_teacher(pooled(teacher.detach(), valid)))
        assert batch is not None, 'its images have been found'
        generator = torch.Generator(student.device)
        generator.manual_seed(hash((self.options.seed, batch.iteration, get_rank())) % 2 ** 63)
        rows = drawn_negatives(images, self.options.negatives, self.options.images, generator)
        remembers = self.training and torch.is_grad_enabled()
        memories = self.memory_student, self.memory_teacher
        if remembers:  # the backward wants them as they are now
            memories = memories[0].clone(), memories[1].clone()
        if not self._has_normalisers:
            self._find_normalisers(ours, theirs, rows)
        z = self.normalisers[0].clone(), self.normalisers[1].clone()
        total = torch.stack(contrast(ours, theirs, memories, rows, z, self.options.temperature)).sum()
        if remembers:
            self._remember(ours.detach(), theirs.detach(), images)
        return total

    @torch.no_grad()
    def _find_normalisers(self, ours: Tensor, theirs: Tensor, rows: Tensor) -> None:
        sides = ((ours, self.memory_teacher), (theirs, self.memory_student))
        found = torch.stack([normaliser(contrast_scores(embedding, memory, rows, self.options.temperature), len(memory))
                             for embedding, memory in sides])
        all_reduce(found, 'mean')
        self.normalisers.copy_(found)
        self._has_normalisers = True

    @torch.no_grad()
    def _remember(self, ours: Tensor, theirs: Tensor, images: Tensor) -> None:
        if get_world_size() > 1:
            ours, theirs, images = (torch.cat(all_gather(values.contiguous())) for values in (ours, theirs, images))
        # An image that is there twice: both write what the first would.
        first = (images[:, None] == images).int().argmax(1)
        for memory, embedding in ((self.memory_student, ours), (self.memory_teacher, theirs)):
            memory.index_copy_(0, images, updated_rows(memory, embedding[first], images, self.options.momentum))

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._has_normalisers = bool(self.normalisers.any())
