"""``docs/losses.md``: every loss that a distiller takes by name, from the classes themselves.

usage: python -m mmkd_plugin.report.losses > docs/losses.md
"""
import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, List, Type

from ..losses import FeatureLoss, LogitsLoss, Loss, loss_names
from ..registry import MODELS
from ..utils.options import reference_table

WITHOUT_A_CLASS = ('cross_head', 'distances', 'divergences', 'margins', 'review')
"""Modules of the losses whose functions are used by losses and distillers elsewhere."""
EXAMPLE = Path(__file__).resolve().parents[2] / 'docs' / 'examples' / 'huber_loss.py'
INTRODUCTION = """# Losses

Made from the code, by `python -m mmkd_plugin.report.losses > docs/losses.md`; a test holds the two together.

`loss` of `mmkd.FeatureDistiller` and of `mmkd.LogitsDistiller` takes each of them by its short name, its registered name, or
as a dict with options: `loss='cwd'`, `loss='mmkd.CWDLoss'`, `loss=dict(type='mmkd.CWDLoss', temperature=4.0)`. DFA's
`distance` takes those between features too.

Value and gradient of each are compared, in float64, with those of public reference implementations
(`tests/losses/test_oracles.py`; not those of L1 and cosine, which have no paper). The gradient reaches the student only.
Padding, ignored boxes and unlabelled pixels have no part in a loss where the distiller masks them (`mask_padding`).
An image with mixed labels (`gt_score`, shares that sum to 1) counts as its class with the largest share in a loss that needs
labels; one with several labels is refused there.

The fusion of ReviewKD is a distiller of its own, `mmkd.ReviewKDDistiller`.

CrossKD (Wang et al., CVPR 2024) is there as functions only (`losses/cross_head.py`, with the same tests), not as a
distiller: it sends a feature from inside the student's head through the rest of the teacher's. The heads of one-stage
detectors run once for each level of the pyramid, and a tap is one feature of one forward; a teacher stops at its deepest
tap, and its `runtime` may hold it in other weights (folded, in half precision) than those that the student's feature would
go through; and the rest of a head, its decoding, its weights of boxes and the number of positives that they are divided by
are each detector's own, so it would be written anew for every head.

Time and memory of each beside plain L2: [benchmarks.md](benchmarks.md).

## One of your own

A class that derives from `FeatureLoss` (or from `LogitsLoss`, with a method `compare`), registered, in a file of yours
(`docs/examples/huber_loss.py`; `tests/docs/test_write_your_own_loss.py` runs it):

```python
{example}
```

`student` and `teacher` are (B, C, H, W) in float32, `valid` (B, 1, H, W) says which cells count (None: all), `batch`
has images and ground truth. `widths` says which adapter comes before it, `prepare` makes what is trained, options are
fields of its `Options`, as those of every loss here. Name the file where the config imports the package, and use it:

```python
custom_imports = dict(imports=['mmkd_plugin', 'huber_loss'])   # a module that Python finds
hint = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer4'], loss='mmkd.HuberLoss')
```

A misspelt name is an error with the nearest one:
`model.distillers.hint.loss: 'mmkd.HubrLoss' is not known. Did you mean 'mmkd.HuberLoss' or 'mmkd.ABLoss'? ...`"""

FUNCTIONS = """Each loss is a class around functions of tensors, in `mmkd_plugin.losses.<module>`. They take any float type
(the references are compared in float64), maps of any size, and batches of one. `valid` is (B, 1, H, W) of bool, the cells
that count, None for all. What begins with a capital letter is a module, whose layers are trained with the student. Shapes
and formula stand in each docstring. A loss that is standardised gets its scores from `base.standardise(logits)`."""


def page() -> str:
    """The page as markdown."""
    parts = [INTRODUCTION.replace('{example}', EXAMPLE.read_text().rstrip()), '## Between features: `mmkd.FeatureDistiller`',
             _table(FeatureLoss, 'takes maps of different widths')]
    parts += [part for kind in _kinds(FeatureLoss) for part in _section(kind, [])]
    parts += ['## Between class scores: `mmkd.LogitsDistiller`', 'Each of them has:', reference_table(LogitsLoss.Options),
              _table(LogitsLoss, 'needs labels')]
    parts += [part for kind in _kinds(LogitsLoss) for part in _section(kind, ['standardise'])]
    parts += ['## The formulas as functions', FUNCTIONS, _functions()]
    return '\n\n'.join(parts) + '\n'


def _table(family: Type[Loss], ability: str) -> str:
    rows = [f'| `{kind.short}` | {_what(kind)[0]} | {_ability(kind)} |' for kind in _kinds(family)]
    return '\n'.join([f'| name | what, and from which paper | {ability} |', '|---|---|---|', *rows])


def _kinds(family: Type[Loss]) -> Iterator[Type[Loss]]:
    for _, name in sorted(loss_names(family).items()):
        kind = MODELS.get(name)
        if kind.__module__.startswith('mmkd_plugin.'):
            yield kind


def _functions() -> str:
    """The public functions and modules of all losses, with their arguments and what they say first."""
    names = {kind.__module__.rpartition('.')[2] for family in (FeatureLoss, LogitsLoss) for kind in _kinds(family)}
    rows = ['| function | |', '|---|---|']
    for name in sorted({*names, *WITHOUT_A_CLASS}):
        module = import_module(f'mmkd_plugin.losses.{name}')
        found = [entry for entry in vars(module).values() if getattr(entry, '__module__', '') == module.__name__
                 and not (isinstance(entry, type) and issubclass(entry, Loss))
                 and not entry.__name__.startswith('_') and 'batch' not in inspect.signature(entry).parameters]
        rows += [f'| `{name}.{entry.__name__}({_arguments(entry)})` | {_first_sentence(entry)} |' for entry in found]
    return '\n'.join(rows)


def _arguments(entry: Any) -> str:
    parameters = inspect.signature(entry).parameters.values()
    return ', '.join(each.name if each.default is each.empty or callable(each.default) else f'{each.name}={each.default!r}'
                     for each in parameters)


def _first_sentence(entry: Any) -> str:
    text = _as_markdown((inspect.getdoc(entry) or '').split('\n\n')[0])
    return text.replace('|', '\\|')


def _ability(kind: Type[Loss]) -> str:
    if issubclass(kind, LogitsLoss):
        return 'yes' if kind.needs_labels else ''
    assert issubclass(kind, FeatureLoss), 'a loss is of one of the two families'
    return {'any': 'yes', 'equal': 'with an adapter', 'adapted': 'with an adapter (always there)'}[kind.widths]


def _section(kind: Type[Loss], shared: List[str]) -> List[str]:
    what, block = _what(kind), _block(kind)
    table = reference_table(kind.Options, shared)
    return [f'### `{kind.short}`: `mmkd.{kind.__name__}`', *what, *([table] if table.count('\n') > 1 else []),
            f'```python\n{block}\n```']


def _paragraphs(kind: Type[Loss]) -> List[str]:
    return (inspect.getdoc(kind) or '').split('\n\n')


def _what(kind: Type[Loss]) -> List[str]:
    """What the docstring says before the block of config, as markdown."""
    found = []
    for paragraph in _paragraphs(kind):
        if paragraph.startswith('In a config::'):
            break
        if paragraph.startswith('Raises:'):
            continue
        found.append(_as_markdown(paragraph))
    return found


def _as_markdown(paragraph: str) -> str:
    text = ' '.join(paragraph.split())
    return re.sub(r':\w+:`[.~]*([^`]*)`', lambda match: f'`{match[1].split(".")[-1]}`', text).replace('``', '`')


def _block(kind: Type[Loss]) -> str:
    paragraphs = _paragraphs(kind)
    return textwrap.dedent(paragraphs[paragraphs.index('In a config::') + 1])


if __name__ == '__main__':
    print(page(), end='')
