"""A network's forward to its taps as one graph, for ``torch.compile``.

Hooks inside a compiled module break its graph, and a forward that ends at the deepest tap ends with an exception. So a
forward is traced at the level of tensor operations, with its hooks, and what comes out is a graph whose inputs are the
images and whose outputs are the features: nothing else is left of the taps.
"""
import logging
from typing import Any, Callable, Dict, Hashable, List, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..utils.errors import DistillationError, shortened
from ..utils.isolation import preserved_rng
from .call import Call
from .variants import TOLERANCE, difference

MOST_GRAPHS = 8
Graph = Callable[[Tensor], List[Tensor]]


class Compiled:
    """The features of calls, by a graph for each shape of a batch.

    A graph knows the shapes, the taps and the sums of one call; from the ninth kind of call on the network runs as it is. It
    does not know data samples, so the network is traced without them: one that reads them is refused.

    Args:
        run: gives the features of a call, by name.
        path: the key under which ``compile`` stands.
        backend: what ``torch.compile`` compiles with.
    """

    def __init__(self, run: Callable[[Call], Dict[str, Tensor]], path: str = 'runtime', backend: str = 'inductor'):
        self._run, self._path, self._backend = run, f'{path}.compile', backend
        self._graphs: Dict[Hashable, Tuple[List[str], Graph]] = {}
        self._is_full = False

    def __call__(self, call: Call) -> Dict[str, Tensor]:
        """Features by address, and sums by name.

        Raises:
            DistillationError: if the network cannot be traced or compiled, or its graph does something else.
        """
        key = call.key()
        if key not in self._graphs:
            if len(self._graphs) == MOST_GRAPHS:
                self._say_once()
                return self._run(call)
            self._graphs[key] = self._compiled(call)
        names, graph = self._graphs[key]
        # Autocast has been at work when the graph was traced.
        with torch.no_grad(), torch.autocast(call.inputs.device.type, enabled=False):
            return dict(zip(names, graph(call.inputs)))

    def _compiled(self, call: Call) -> Tuple[List[str], Graph]:
        plain = self._run(call)
        names = list(plain)

        def features(inputs: Tensor) -> List[Tensor]:
            found = self._run(Call(inputs, None, call.addresses, call.sums))
            return [found[name] for name in names]

        try:
            with preserved_rng(), torch.no_grad():
                graph: Any = torch.compile(make_fx(features)(call.inputs), backend=self._backend, dynamic=False)
                with torch.autocast(call.inputs.device.type, enabled=False):
                    found = graph(call.inputs)
        except Exception as error:  # what compilers raise is of no common kind
            raise DistillationError(f'cannot be done with this network ({type(error).__name__}: {shortened(str(error))})',
                                    path=self._path, given=True, accepted='False, for it and on this machine') from error
        apart = difference(found, plain.values())
        if apart > (TOLERANCE if all(feature.dtype == torch.float32 for feature in found) else 0.05):
            raise DistillationError(f'gives other features: they differ by {apart:.1e} of their largest magnitude',
                                    path=self._path, given=True, accepted='False, for it and on this machine')
        print_log(f'{self._path}: compiled for a batch of {tuple(call.inputs.shape)}; {apart:.1e} apart', 'current')
        return names, graph

    def _say_once(self) -> None:
        if not self._is_full:
            self._is_full = True
            print_log(f'{self._path}: there are graphs for {MOST_GRAPHS} shapes of batches; others run without compilation',
                      'current', level=logging.WARNING)
