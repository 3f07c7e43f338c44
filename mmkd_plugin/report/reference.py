"""``docs/options.md``: every option of every registered class, from the fields that check them.

usage: python -m mmkd_plugin.report.reference > docs/options.md
"""
import dataclasses
import inspect
from typing import Any, Iterator, List, Tuple

from ..datasets import ImagesOnDevice, SplitDataset
from ..distiller import Distiller
from ..distiller.strength import StrengthOptions
from ..model.overlay import ModelOptions
from ..model.teacher import TeacherOptions
from ..model.teacher_module import ModuleTeacherOptions
from ..registry import HOOKS, MODELS
from ..runtime import RuntimeOptions
from ..search import SearchOptions
from ..search.derive import SearchConfig
from ..utils.options import reference_table

INTRODUCTION = """# Options

Made from the code that checks them, by `python -m mmkd_plugin.report.reference > docs/options.md`; a test holds the two \
together."""


def reference() -> str:
    """The page as markdown."""
    parts = [INTRODUCTION]
    for title, summary, options, leave_out in _sections():
        parts += [f'## {title}', summary, reference_table(options, leave_out)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def _sections() -> Iterator[Tuple[str, str, Any, List[str]]]:
    """Title, first line, options, and names of those that stand elsewhere on the page."""
    yield '`model` of a distilled config', "`type='mmkd.DistilledModel'`", ModelOptions, []
    yield '`model.teacher`, and each of `model.teachers`', 'A model of mmseg, mmdet or mmpretrain:', TeacherOptions, []
    yield ('`model.teacher` with a `module`', 'Any other `nn.Module`, see [teachers.md](teachers.md):',
           ModuleTeacherOptions, [])
    yield '`model.teacher.runtime`, where it is a dict', '', RuntimeOptions, []
    yield 'Every distiller', 'Beside its own options, each entry of `model.distillers` takes:', StrengthOptions, []
    shared = [field.name for field in dataclasses.fields(StrengthOptions)]
    for name, kind in sorted(MODELS.module_dict.items()):
        if inspect.isclass(kind) and issubclass(kind, Distiller) and kind.__module__.startswith('mmkd_plugin.'):
            yield f'`mmkd.{name}`', _summary(kind), kind.Options, shared
    yield 'The hook of every search', '', SearchOptions, ['out']
    shared = [field.name for field in dataclasses.fields(SearchOptions) if field.name != 'out']
    for name, hook in sorted(HOOKS.module_dict.items()):
        if hasattr(hook, 'Options') and hook.__module__.startswith('mmkd_plugin.'):
            yield f'`mmkd.{name}`', _summary(hook), hook.Options, shared if issubclass(hook.Options, SearchOptions) else []
    yield '`search` of a replay config', 'See `mmkd search`.', SearchConfig, []
    yield '`mmkd.SplitDataset`', _summary(SplitDataset), SplitDataset.Options, []
    yield '`mmkd.ImagesOnDevice`', _summary(ImagesOnDevice), ImagesOnDevice.Options, []


def _summary(kind: Any) -> str:
    return (inspect.getdoc(kind) or '').split('\n\n')[0].replace('\n', ' ').replace('``', '`')


if __name__ == '__main__':
    print(reference(), end='')
