"""Which variant of a network is the fastest on this machine, for these images: measured, within seconds.

A trial runs before the student's first forward, so that what it needs is not added to what a step needs.
"""
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, List, Sequence

import torch
from torch import Tensor, nn

from .call import Call
from .timing import LEAST_ROUNDS, Timings, choose, interleaved
from .variants import PLAIN, TOLERANCE, Holder, Variant, difference

SECONDS, MOST_ROUNDS, WARMUP = 8.0, 12, 1
ENOUGH_ROUNDS = 7
"""A batch is made smaller rather than that fewer rounds than these fit into the time."""

RUN_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError)
"""What a network raises that does not run in some memory format or precision."""
Run = Callable[[Call, Variant], Dict[str, Tensor]]
"""Gives the features of a call; the network is held in the variant already."""


@dataclass(frozen=True)
class Trial:
    """What a trial has found.

    Attributes:
        chosen: the variant that is taken.
        timings: by the name of a variant; the plain one's is among them.
        apart: by the name of a variant, how far its features are from the plain network's; infinite where it did not run.
        images: how many images the batch had on which they were timed.
        spent: seconds of all of it.
    """
    chosen: Variant
    timings: Timings
    apart: Dict[str, float]
    images: int
    spent: float

    def __str__(self) -> str:
        if not self.timings.rounds:
            return f'{self.chosen} (nothing else was timed)'
        plain, rounds = str(PLAIN), self.timings.rounds
        tried = [f'{name} {self.timings.ratio(name, plain):.3f}' if name in self.timings.seconds else f'{name} not timed'
                 for name in self.apart]
        tried = [f'{text} ({apart:.0e} apart)' for text, apart in zip(tried, self.apart.values())]
        return (f'{self.chosen} (plain: {self.timings.median(plain) * 1e3:.1f} ms for {self.images} images; relative '
                f'to it: {", ".join(tried)}; {rounds} rounds, {self.spent:.1f} s)')


def candidates(network: nn.Module, folds: bool) -> List[Variant]:
    """The variants without a change in precision that differ from the plain one, the most promising first.

    Args:
        network: the network.
        folds: whether it has a batch norm that can be folded.
    """
    turns = any(parameter.dim() == 4 for parameter in network.parameters())
    found = [Variant(True), Variant(True, True), Variant(False, True)]
    return [variant for variant in found if (folds or not variant.fold_bn) and (turns or not variant.channels_last)]


def find_fastest(holder: Holder, run: Run, call: Call, variants: Sequence[Variant], seconds: float = SECONDS) -> Trial:
    """Times variants in turn and returns the fastest; the network is in the plain one afterwards.

    Args:
        holder: holds the network.
        run: gives its features.
        call: a batch, as large as the ones to come.
        variants: what is tried beside the plain one, the most promising first: where time is short, the last go first.
        seconds: how long the trial may take.
    """
    started = time.perf_counter()
    one = call.first(1)
    once = min(_seconds(run, one), _seconds(run, one))  # the first time takes longer
    variants = variants[:_affordable(seconds, once)]
    apart = features_apart(holder, run, one, variants)
    tried = [PLAIN, *(variant for variant in variants if apart[str(variant)] <= TOLERANCE)]
    part = call.first(_images(len(call.inputs), once, len(tried), seconds))
    by_name = {str(variant): variant for variant in tried}
    calls: Dict[str, Callable[[], object]] = {name: partial(run, part, variant) for name, variant in by_name.items()}
    warmup = WARMUP if len(part.inputs) > 1 else 0  # of one image each has run already
    timings = interleaved(calls, MOST_ROUNDS, warmup, seconds - (time.perf_counter() - started),
                          lambda name: holder.hold(by_name[name]), call.inputs.device)
    holder.hold(PLAIN)
    return Trial(by_name[choose(timings, str(PLAIN))], timings, apart, len(part.inputs),
                 time.perf_counter() - started)


def features_apart(holder: Holder, run: Run, call: Call, variants: Sequence[Variant],
                   required: bool = False) -> Dict[str, float]:
    """How far variants' features are from the plain network's, by the name of the variant; it is plain afterwards.

    In full float32: without autocast, and on a GPU without TF32. See :func:`~mmkd_plugin.runtime.variants.difference`.

    Args:
        holder: holds the network.
        run: gives its features.
        call: a batch.
        variants: what is compared.
        required: whether each has to run. A network may look at its tensors in a way that only one memory format allows;
            if it need not run, its features are infinitely far apart.
    """
    apart = {}
    with torch.backends.cudnn.flags(enabled=False, allow_tf32=False), torch.autocast(call.inputs.device.type, enabled=False):
        plain = list(run(call, PLAIN).values())
        for variant in variants:
            holder.hold(variant)
            try:
                apart[str(variant)] = difference(run(call, variant).values(), plain)
            except RUN_ERRORS:
                if required:
                    raise
                apart[str(variant)] = math.inf
    holder.hold(PLAIN)
    return apart


def _seconds(run: Run, call: Call) -> float:
    return interleaved(dict(plain=partial(run, call, PLAIN)), 1, 0, device=call.inputs.device).median('plain')


def _affordable(seconds: float, once: float) -> int:
    """How many variants there is time for: each runs once for the difference, and in as many rounds as are needed."""
    runs = seconds / max(once, 1e-9) - 3 - LEAST_ROUNDS  # those of the plain network
    return max(1, int(runs / (1 + LEAST_ROUNDS)))


def _images(images: int, once: float, calls: int, seconds: float) -> int:
    """How many images of a batch are timed: all, or fewer, so that there is time for enough rounds.

    Args:
        images: how many the batch has.
        once: seconds of a forward of one image.
        calls: how many variants are timed.
        seconds: for all of the trial.
    """
    runs = seconds / max(once, 1e-9) - 2 - calls
    return max(1, min(images, int(runs / (calls * (ENOUGH_ROUNDS + WARMUP)))))
