"""The random generators of the main process: where a resumed run puts them back."""
from typing import Any, Dict, Mapping, Optional

import torch
from mmengine.runner import IterBasedTrainLoop, Runner

from ...utils.errors import DistillationError, under
from ...utils.isolation import NUMPY_WORDS, PYTHON_WORDS, get_rng_state, preserved_rng, set_rng_state
from ...utils.records import Array, Fields, Listing, Maybe, Real, Row, Whole, Words

WORD = 2 ** 32 - 1


class Generators:
    """Holds the states of a checkpoint until the moment at which the uninterrupted run had them.

    An epoch-based loop had them when its next epoch began. An iteration-based loop had them before it fetched its next
    batch; the resumed one fetches all batches before that again, and what their transforms draw in this process is undone.
    """

    def __init__(self) -> None:
        self._waiting: Optional[Mapping[str, Any]] = None

    def hold(self, state: Mapping[str, Any]) -> None:
        """Takes the states of a checkpoint."""
        self._waiting = state

    def advance(self) -> None:
        """Puts the states in place for something that comes first. Call :meth:`hold_on` after it."""
        if self._waiting is not None:
            set_rng_state(dict(self._waiting))

    def hold_on(self) -> None:
        """Holds the present states, after what came first."""
        if self._waiting is not None:
            self._waiting = get_rng_state()

    def epoch_begins(self, runner: Runner) -> None:
        """To be called in ``before_train_epoch``."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            if self._waiting is not None:
                loop = runner.train_loop
                # With this option OneDL's loop fetches nothing again, and goes on with the first batches.
                fetched = 0 if getattr(loop, 'fast_forward_on_resume', False) else loop.iter
                loop.dataloader_iterator = _PutsBack(self, loop, fetched)
        else:
            self.put_back()

    def put_back(self) -> None:
        """Puts the states in place, once."""
        self.advance()
        self._waiting = None


class _PutsBack:
    """The batches of an iteration-based loop; before that of a certain number, generators are put back."""

    def __init__(self, generators: Generators, loop: IterBasedTrainLoop, number: int):
        self._generators, self._loop, self._left = generators, loop, number
        self._batches = loop.dataloader_iterator

    def __iter__(self) -> '_PutsBack':
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            # OneDL's iterator starts its workers at its first batch, and draws their seed: before the states are put back.
            getattr(self._batches, '_ensure_iterator', lambda: None)()
            self._generators.put_back()
            self._loop.dataloader_iterator = self._batches
        self._left -= 1
        return next(self._batches)

    def skip_iter(self, number: int) -> None:
        """Fetches that many batches, as OpenMMLab's loop does. OneDL's loop calls this.

        Its own iterator would only move the sampler, and workers would draw for the next batches what they had drawn for the
        first.
        """
        for _ in range(number):
            next(self)


def check_rng_state(state: Any) -> None:
    """Raises :class:`DistillationError` for what the generators do not take; it says which entry it is.

    A position outside of a generator's words would have it read beyond its memory.
    """
    words = Listing(Whole(most=WORD), PYTHON_WORDS)
    Fields(dict(
        python=Row(Whole(3, 3), words, Maybe(Real())),
        numpy=Row(Words(('MT19937',)), Array(torch.long, (NUMPY_WORDS,), least=0, below=WORD + 1), Whole(most=NUMPY_WORDS),
                  Whole(most=1), Real()),
        torch=Array(torch.uint8, tuple(torch.get_rng_state().shape)),
        cuda=Array(torch.uint8)), optional=('cuda',)).check(state)
    with under('python[1]'):
        Whole(most=PYTHON_WORDS - 1).check(state['python'][1][-1])
    host: Dict[str, Any] = {name: value for name, value in state.items() if name != 'cuda'}
    try:
        with preserved_rng():
            set_rng_state(host)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DistillationError(f'is taken by no generator ({error})') from None
