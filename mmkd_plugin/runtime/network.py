"""How a network is run for its features: as it is, as options say, or in the variant that is found to be the fastest."""
import logging
from typing import Callable, Dict, List, Mapping, Optional

import torch
from mmengine.dist import broadcast_object_list, get_rank, is_distributed
from mmengine.logging import print_log
from torch import Tensor, nn

from ..taps import FeatureTaps, laid_out
from ..utils.errors import DistillationError, shortened, under
from ..utils.isolation import preserved_buffers, preserved_rng
from ..utils.records import Fields, Truth
from .call import Call, Forward, recorded
from .compiled import Compiled
from .folding import Pair, foldable_pairs
from .options import RuntimeOptions, Wanted
from .stream import SideStream
from .trial import RUN_ERRORS, candidates, features_apart, find_fastest
from .variants import PLAIN, TOLERANCE, Holder, Variant

CHOICE = Fields(dict(fold_bn=Truth(), channels_last=Truth()))
"""What a checkpoint keeps of what ``'auto'`` has chosen."""


class Runtime:
    """Runs a network that is not trained, for its features.

    With options the network is changed when it runs for the first time. With ``'auto'`` it runs as it is until the first
    training step (:meth:`start`), where its variants are timed and one is chosen once and for all; under DDP by rank 0.

    Args:
        model: the network, in eval mode.
        taps: its taps; all of them have been added before it runs.
        forward: runs it on images and data samples.
        wanted: ``'plain'``, ``'auto'``, or options.
        path: the key under which ``wanted`` stands.
    """

    def __init__(self, model: nn.Module, taps: FeatureTaps, forward: Forward, wanted: Wanted = 'plain',
                 path: str = 'runtime'):
        self._model, self._taps, self._forward, self._path = model, taps, forward, path
        self._is_auto = wanted == 'auto'
        options = wanted if isinstance(wanted, RuntimeOptions) else RuntimeOptions()
        self._variant = PLAIN  # the present one
        self._wanted = None if self._is_auto else options.variant()
        self._compiled = Compiled(self._run, path) if options.compile else None
        self._stream = SideStream() if options.stream else None

    @property
    def dtype(self) -> Optional[torch.dtype]:
        """What it holds the network in; None: as it is."""
        return self._variant.dtype

    @property
    def choice(self) -> Optional[Dict[str, bool]]:
        """What ``'auto'`` has chosen; None where it has not, or was not asked to."""
        if not self._is_auto or self._wanted is None:
            return None
        return dict(fold_bn=self._wanted.fold_bn, channels_last=self._wanted.channels_last)

    def take(self, choice: Mapping[str, bool]) -> None:
        """Takes :attr:`choice` of the run that is resumed rather than to measure anew; to be called before it runs."""
        chosen = Variant(choice['fold_bn'], choice['channels_last'])
        if self._is_auto:
            self._wanted = chosen
            self._say(f'{chosen}, as it was chosen when the run began')
        else:
            self._say(f"was 'auto' when the run began, which chose {chosen}; now the config says otherwise, and the run is "
                      'not bit-equal to one that was not interrupted', logging.WARNING)

    def features(self, call: Call) -> Dict[str, Tensor]:
        """Features by address, and sums by name, without gradient.

        Raises:
            DistillationError: if the network cannot be run as the options say.
        """
        if self._wanted is not None and self._wanted != self._variant:
            self._change(self._wanted, call)
        return self._run(call) if self._compiled is None else self._compiled(call)

    def start(self, make: Callable[[], Call], device: torch.device) -> Callable[[], Dict[str, Tensor]]:
        """Begins what can run beside the forward of a training step, which comes next; returns what gives the features.

        Args:
            make: makes the call; where nothing begins yet it is made later, so that its images take no memory before.
            device: where the images are.

        Raises:
            DistillationError: if the network cannot be run as the options say.
        """
        if self._wanted is None:
            self._wanted = self._fastest(make())
        if self._stream is None or device.type != 'cuda':
            return lambda: self.features(make())
        call = make()
        return self._stream.start(lambda: self.features(call), call.inputs)

    def _run(self, call: Call) -> Dict[str, Tensor]:
        return self._run_as(call, self._variant)

    def _run_as(self, call: Call, variant: Variant) -> Dict[str, Tensor]:
        """The features, where the network is held in a variant already."""
        given = call.inputs
        with variant.context(given):
            found = recorded(self._taps, self._forward, call.with_inputs(variant.images(given)))
        return {name: variant.feature(feature, given) for name, feature in found.items()}

    def _run_in_plain_format(self, call: Call, variant: Variant) -> Dict[str, Tensor]:
        """As for a student in the plain format, whose losses have to wait for that: what a variant costs at most."""
        return laid_out(self._run_as(call, variant), {})

    def _pairs(self, call: Call) -> List[Pair]:
        part = call.first(1, all_taps=True)
        return foldable_pairs(self._model, lambda: recorded(self._taps, self._forward, part).values())

    def _change(self, variant: Variant, call: Call) -> None:
        """Holds the network in a variant from now on, once it has been seen to have the same features."""
        with preserved_rng(), preserved_buffers(self._model):
            holder = Holder(self._model, self._pairs(call) if variant.fold_bn else [])
            if not self._is_auto:
                with under(self._path):
                    self._check(holder, variant, call)
        holder.stay_with(variant)
        self._variant = variant

    def _check(self, holder: Holder, variant: Variant, call: Call) -> None:
        if variant.dtype is not None and call.inputs.device.type == 'cpu':
            raise DistillationError('is for a GPU; on a CPU it is slower', path='precision',
                                    given=str(variant.dtype).split('.')[-1], accepted='None on a CPU')
        try:
            apart = features_apart(holder, self._run_as, call.first(1), [variant], required=True)[str(variant)]
        except RUN_ERRORS as error:
            raise DistillationError(f'the network does not run as {variant} ({type(error).__name__}: '
                                    f'{shortened(str(error))})', accepted='other options, or none') from error
        if variant.dtype is None and not apart <= TOLERANCE:
            raise DistillationError(f'as {variant} the network has other features: they differ by {apart:.1e}, more than '
                                    f'{TOLERANCE}', accepted='other options, or none')
        folded = f'; {len(holder.pairs)} batch norms folded' if variant.fold_bn else ''
        self._say(f'{variant}: features differ by {apart:.1e} of their largest magnitude{folded}')

    def _fastest(self, call: Call) -> Variant:
        """Measures on rank 0, and brings what is chosen to the others."""
        found: List[Optional[Variant]] = [None]
        if get_rank() == 0:
            with preserved_rng(), preserved_buffers(self._model):
                pairs = self._pairs(call)
                trial = find_fastest(Holder(self._model, pairs), self._run_in_plain_format, call,
                                     candidates(self._model, bool(pairs)))
            self._say(str(trial))
            found = [trial.chosen]
        if is_distributed():
            broadcast_object_list(found)
        assert found[0] is not None, 'rank 0 has chosen'
        return found[0]

    def _say(self, text: str, level: int = logging.INFO) -> None:
        print_log(f'{self._path}: {text}', 'current', level=level)
