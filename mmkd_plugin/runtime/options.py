"""How a network is to be run, as options."""
from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Union

import torch

from ..utils.kinds import ReadKind
from ..utils.options import Block, Choice, Either, Flag, Options, option
from .variants import Variant

PRECISIONS = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions(Options):
    """The ``runtime`` of a teacher, where it is a dict."""
    fold_bn: bool = option(Flag(), False, 'batch norms are folded into the convolutions before them, where neither a '
                           'tap nor anything else sees what lies between')
    channels_last: bool = option(Flag(), False, "kernels and images are in torch's channels_last; distillers get "
                                 "features in the format of the student's")
    precision: Optional[str] = option(Either(Choice(tuple(PRECISIONS)), (None,)), None, 'what its weights are held in, so '
                                      'that autocast need not cast them; None: as they are. On a GPU only')
    compile: bool = option(Flag(), False, 'torch.compile, for each shape of a batch anew (minutes); not for networks '
                           'that read data samples')
    stream: bool = option(Flag(), False, "on a GPU it runs beside the student's forward, on a CUDA stream of its own; "
                          'on a CPU nothing changes')

    def variant(self) -> Variant:
        """How the network is held."""
        return Variant(self.fold_bn, self.channels_last, PRECISIONS[self.precision] if self.precision else None)


@dataclass(frozen=True)
class RuntimeKind(ReadKind):
    """A :class:`RuntimeOptions`, from a dict."""
    accepted = f'a dict with some of {", ".join(field.name for field in fields(RuntimeOptions))}'

    def read(self, value: Any) -> RuntimeOptions:
        return value if isinstance(value, RuntimeOptions) else RuntimeOptions.read(Block(self.accepted).read(value))


Wanted = Union[str, RuntimeOptions, Dict[str, Any]]
"""``'plain'``, ``'auto'``, or options."""
RUNTIME = Either(RuntimeKind(), ('plain', 'auto'))
"""The kind of the option ``runtime``."""
