"""Options that may be others in a run that is resumed: which have changed since its checkpoint was saved, in one line."""
import dataclasses
import hashlib
from typing import Any, Dict, List, Mapping, Optional

from mmengine.runner import Runner

from ...utils.errors import LONGEST_REASON, shortened
from ..student import distillation_of, distilled
from ..teacher import TeacherOptions
from ..teacher_module import ModuleTeacherOptions

Settings = Dict[str, Dict[str, str]]
"""By the key of a block of the config, the text of each of its options."""
NOT_COMPARED = ('checkpoint', 'allow_random_weights')
"""Of a teacher: its weights are told by their hash, wherever they lie."""
LONGEST_SHOWN, LARGEST_WHOLE = 80, 1e15


def settings_of(runner: Runner) -> Settings:
    """The options of the distillers, the teachers and the hooks of this package, as a run has them before it begins."""
    found = {distiller.path: _texts(distiller.options) for distiller in distillation_of(runner).distillers.values()}
    for name, block in distilled(runner).distillation_cfg['teachers'].items():
        found[f'model.teachers.{name}' if name else 'model.teacher'] = _of_teacher(block)
    for hook in runner.hooks:
        options = getattr(hook, 'options', None)
        if type(hook).__module__.startswith(f'{__package__.partition(".")[0]}.') and dataclasses.is_dataclass(options):
            key = type(hook).__name__  # it may stand among the default hooks or the others
            number = sum(name.startswith(key) for name in found)
            found[f'{key}.{number}' if number else key] = _texts(options)
    return found


def changed_settings(before: Optional[Mapping[str, Mapping[str, str]]], now: Mapping[str, Mapping[str, str]]) -> List[str]:
    """What has changed, in words: each option with both values, and blocks that are there on one side only.

    An option that one side does not know has come or gone with a version of this package: that is no change.

    Args:
        before: the settings that the checkpoint has; None where it has none.
        now: the settings that the run has.
    """
    if before is None:
        return []
    said = []
    for block in dict.fromkeys([*before, *now]):
        ours, theirs = now.get(block), before.get(block)
        if ours is None or theirs is None:
            said.append(f'{block} is {"new" if theirs is None else "gone"}')
            continue
        said += [f'{block}.{name} is {_shown(ours[name])}, it was {_shown(text)}' for name, text in theirs.items()
                 if name in ours and ours[name] != text]
    return said


def _of_teacher(block: Mapping[str, Any]) -> Dict[str, str]:
    kind = ModuleTeacherOptions if 'module' in block else TeacherOptions
    return {field.name: _text(block.get(field.name, field.default)) for field in dataclasses.fields(kind)
            if field.name not in NOT_COMPARED}


def _texts(options: Any) -> Dict[str, str]:
    return {field.name: _text(getattr(options, field.name)) for field in dataclasses.fields(options)}


def _text(value: Any) -> str:
    """A value as text; a long one in short, with a hash of all of it."""
    text = _whole_text(value)
    if len(text) <= LONGEST_REASON:
        return text
    return f'{shortened(text)} (sha256 {hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]})'


def _whole_text(value: Any) -> str:
    """The same text for the same value in every process: keys in order, classes and functions by their names."""
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={_whole_text(value[key])}" for key in sorted(value, key=str))})'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_whole_text, value))}]'
    if callable(value):
        return f'{value.__module__}.{getattr(value, "__qualname__", type(value).__qualname__)}'
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE:
        return repr(int(value))  # 1.0 is 1
    return repr(value)


def _shown(text: str) -> str:
    return shortened(text, LONGEST_SHOWN)
