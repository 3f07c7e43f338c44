"""The extra norm of matching guided distillation: what may stand in its config, and how it is built."""
import math
from dataclasses import dataclass
from typing import Any, Dict, Optional

from mmcv.cnn import build_norm_layer
from torch import nn

from ..utils.errors import DistillationError, check_known_keys, unknown_name
from ..utils.kinds import ReadKind
from ..utils.options import Either, Flag, Kind, Number, read_known

_ALL: Dict[str, Kind] = dict(requires_grad=Flag(), eps=Number(above=0, below=1), affine=Flag())
_AVERAGING: Dict[str, Kind] = dict(_ALL, momentum=Either(Number(least=0, most=1), (None,)), track_running_stats=Flag())
NORMS: Dict[str, Dict[str, Kind]] = dict(BN=_AVERAGING, SyncBN=_AVERAGING, IN=_AVERAGING,
                                         GN=dict(_ALL, num_groups=Number(above=0, whole=True)))
"""By type of a norm, the other keys of its config and what they take; torch takes any value, and runs with it."""


@dataclass(frozen=True)
class NormConfig(ReadKind):
    """The norm of a stage: its name, or an mm ``norm_cfg``; read as a ``norm_cfg``, or None."""
    accepted = f'{", ".join(NORMS)}, a norm_cfg with one of these types, or None'

    def read(self, value: Any) -> Optional[Dict[str, Any]]:
        if value is None:
            return None
        cfg = value if isinstance(value, dict) else dict(type=value)
        name = cfg.get('type')
        if not isinstance(name, str) or name not in NORMS:
            raise unknown_name('', name, NORMS, 'Or a norm_cfg with one of these types, or None.')
        check_known_keys('', cfg, ('type', *NORMS[name]))
        return dict(type=name, **read_known(cfg, NORMS[name]))


def build_norm(cfg: Dict[str, Any], channels: int) -> nn.Module:
    """The norm of features with so many channels.

    Args:
        cfg: as :class:`NormConfig` has read it.
        channels: how many channels the features have.

    Raises:
        DistillationError: for groups that do not divide the channels.
    """
    if cfg['type'] == 'GN':
        # the authors' 32 wherever it divides the channels
        groups = cfg.get('num_groups', math.gcd(32, channels))
        if channels % groups:
            raise DistillationError(f'does not divide the {channels} channels of the student', path='norm.num_groups',
                                    given=groups, accepted=f'a number that does, or none: {math.gcd(32, channels)} is then '
                                    'taken')
        cfg = dict(cfg, num_groups=groups)
    norm: nn.Module = build_norm_layer(cfg, channels)[1]
    return norm
