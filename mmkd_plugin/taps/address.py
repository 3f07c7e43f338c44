"""Addresses of taps: ``module.path[index]@port``, of one of several teachers ``name:module.path[index]@port``.

* ``backbone.layer3``          the output of a module; a negative number indexes a list (``backbone.layer4.-1``);
* ``neck[0]``                  one item of an output that is a list or tuple;
* ``backbone.layer4@preact``   the input of the last activation inside a module, before that activation;
* ``backbone.layer4.0@end``    what a block ends with, before the activation that closes it; the output where none does
                               (pre-activation networks, linear bottlenecks);
* ``decode_head.conv_seg@in``  the first input of a module;
* ``big:backbone.layer4``      of the teacher that is called ``big``.
"""
import re
from dataclasses import dataclass
from typing import Any, List, Optional

from torch import nn

from ..utils.errors import DistillationError, unknown_name
from ..utils.options import Kind

PORTS = ('out', 'in', 'preact', 'end')
ADDRESS = f'"module.path" or "module.path[index]", each with an optional "@port" ({", ".join(PORTS)})'

_ADDRESS = re.compile(r'(?:(?P<teacher>[^\W\d]\w*):)?'
                      r'(?P<path>[^\[\]@:\s]+)(?:\[(?P<index>-?\d{1,9})\])?(?:@(?P<port>[^\[\]@\s]+))?')


@dataclass(frozen=True)
class TapAddress:
    """A parsed address.

    Attributes:
        path: the module's.
        index: which item of its output; None where the output is used whole.
        port: one of ``PORTS``.
        teacher: the name of the teacher; '' where none is named.
    """
    path: str
    index: Optional[int]
    port: str
    teacher: str = ''

    @classmethod
    def parse(cls, text: Any) -> 'TapAddress':
        """Reads an address. Raises :class:`DistillationError` where it is none."""
        match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise DistillationError('is not the address of a tap', given=text, accepted=ADDRESS)
        port = match['port'] or 'out'
        if port not in PORTS:
            raise unknown_name('', port, PORTS, problem=f'is no port (of the tap {text!r})')
        index = None if match['index'] is None else int(match['index'])
        return cls(match['path'], index, port, match['teacher'] or '')


@dataclass(frozen=True)
class TapText(Kind):
    """The address of a tap, as an option.

    Args:
        side: ``'teacher'``, where it may begin with the name of one, or ``'student'``.
    """
    side: str = 'teacher'

    @property
    def accepted(self) -> str:
        return 'the address of a tap'

    def fits(self, value: Any) -> bool:
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        return match is not None and (self.side == 'teacher' or match['teacher'] is None)

    def read(self, value: Any) -> Any:
        parsed = TapAddress.parse(value)
        if self.side == 'student' and parsed.teacher:
            raise DistillationError(f"names a teacher, {parsed.teacher!r}, where a tap of the student stands", given=value,
                                    accepted=repr(without_teacher(value)))
        return value


def without_teacher(address: str) -> str:
    """An address without the name of a teacher."""
    return address.partition(':')[2] or address


def resolve_module(model: nn.Module, path: str, role: str) -> nn.Module:
    """The sub-module of ``model`` at a dotted ``path``; negative numbers count from the end of a list.

    Raises:
        DistillationError: if there is none; names the nearest existing modules.
    """
    module = model
    walked: List[str] = []
    for part in path.split('.'):
        children = dict(module.named_children())
        if part not in children and re.fullmatch(r'-\d{1,9}', part) and isinstance(module, (nn.Sequential, nn.ModuleList)):
            part = str(len(children) + int(part))
        if part not in children:
            where = '.'.join(walked)
            names = [name for name, _ in model.named_modules() if name]
            inside = f'{where!r} contains: {", ".join(children) or "no modules"}.' if where else (
                f'The {role} contains: {", ".join(children)}.')
            candidates = sorted(names, key=lambda name: name.count('.') != path.count('.'))
            raise unknown_name('', path, candidates, inside, f'is no module of the {role}')
        walked.append(part)
        module = children[part]
    return module
