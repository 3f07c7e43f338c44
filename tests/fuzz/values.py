"""Values to put into configs and files: odd ones, nearly valid ones, and texts and numbers that hypothesis makes."""
import math
from pathlib import PosixPath
from typing import Any, List

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ODD: List[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 100, -5, 10 ** 9, 10 ** 12, 2 ** 31, 2 ** 63, -2 ** 63, 10 ** 30, 10 ** 400,
    0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 1e-30, 1e-320, 1e30, 1e200, 1e300, math.inf, -math.inf, math.nan,
    '', ' ', 'auto', 'Auto', 'none', 'None', 'False', 'True', 'no', 'yes', 'x', '0', '1', '0.5', 'nan', 'inf', '1e5',
    'search', 'mean', 'BN', 'l2', 'mmkd.X', 'mmkd.FeatureDistiller', 'ResNet', 'backbone.layer1', 'backbone', '..', '.',
    '../..', '~', '/', '/dev/null', '/nonexistent/file.py', 'a\0b', 'a' * 3000, 'ä✓', '\n', '{', b'bytes',
    [], {}, (), [None], [True], [[]], [0], [1, 2], [1, -1], [math.nan], ['x'], ['x', 'x'], [{}], [[1, 2], [3]],
    {'type': 'x'}, {'type': 5}, {'type': None}, {'type': []}, {'a': 1}, {5: 1}, {None: 1}, {'': ''}, {'model': 5},
    {'type': 'BN'}, {'_delete_': True}, 1j, np.float32(0.5), np.float64(math.nan), np.int64(2), np.bool_(True),
    np.array([1., 2.]), torch.tensor(1.0), torch.tensor([1., 2.]), {1, 2}, PosixPath('x'), range(3), slice(1, 2), ...]
"""What somebody may write by mistake, and what programs write."""

texts = st.text(st.characters(codec='utf-8', exclude_categories=('Cs',)), max_size=12)
numbers = st.one_of(st.integers(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-3, 40), st.floats(-2, 2))
leaves = st.one_of(st.sampled_from(ODD), numbers, texts, st.booleans(), st.none())
trees = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
                     max_leaves=5)
anything = st.one_of(st.sampled_from(ODD), st.sampled_from(ODD), numbers, texts, trees)


def drawn(strategy: st.SearchStrategy, number: int) -> Any:
    """What hypothesis draws from a strategy, a function of the number.

    Its first example is the simplest of all; the second one is random.
    """
    found: List[Any] = []

    @seed(number)
    @settings(max_examples=2, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found[-1]


def variants(value: Any) -> List[Any]:
    """Values that are like a given one, and mostly not it."""
    found: List[Any] = [[value], (value,), dict(value=value), [value, value], None]
    if isinstance(value, bool):
        return [*found, not value, str(value), int(value), float(value), str(value).lower()]
    if isinstance(value, (int, float)):
        return [*found, str(value), -value, value + 1, value - 1, value * 10, value * 1e6, value / 3, float(value),
                int(value),
                math.nan, math.inf, 0, bool(value), complex(value), f'{value} ']
    if isinstance(value, str):
        return [*found, *misspelt(value), value.encode(), [*value][:5], 5, True]
    if isinstance(value, (list, tuple)):
        return [*found, *other_lists(list(value)), dict(enumerate(value)), str(value), set(map(str, value)), len(value)]
    if isinstance(value, dict):
        return [*found, {}, [*value], [*value.items()], str(value), dict.fromkeys(value),
                {str(name).upper(): inner for name, inner in value.items()}, next(iter(value.values()), 5)]
    return found


def other_lists(value: List[Any]) -> List[Any]:
    """A list without some of its items, with one twice, in another order, with another item."""
    return [[], value[:1], value[1:], value[:-1], value[::-1], value + value[:1], value * 2, value + [None], value + [5],
            [None] + value[1:], [[item] for item in value], [str(item) for item in value], [value], tuple(value[::-1]),
            [5] * len(value), value + ['x']]


def misspelt(text: str) -> List[str]:
    """A text with typing mistakes."""
    middle = len(text) // 2
    found = [text[:-1], text[1:], text[:middle] + text[middle + 1:], text + 's', text + '_', '_' + text, text.upper(),
            text.capitalize(), text.replace('_', ''), text.replace('.', '..'), f' {text}', f'{text} ', text[::-1], text * 2,
            text.replace('l', '1'), text.replace('a', 'e'), text[:middle] + 'x' + text[middle:], f'{text}\0', '']
    return [one for one in found if one != text]


def tap_variants(text: str) -> List[Any]:
    """Addresses that are wrong, or others."""
    path, port = text.split('@')[0], text.partition('@')[2]
    addresses = [f'{path}@in', f'{path}@end', f'{path}@preact', f'{path}@out', f'{path}@', f'{path}@{port}@in', f'{path}[0]',
                 f'{path}[-1]', f'{path}[7]', f'{path}[99999999999999999999]', f'{path}[x]', f'{path}[]', f'{path}[0',
                 f'{path}.0', f'{path}.-1', f'{path}.-9', f'{path}.99', f'{path}.conv1', f'{path}.', f'.{path}',
                 f'{path}@{port}[0]', f'student.{path}', f'model.{path}', path.rpartition('.')[0], f'{path}.__class__',
                 f'{path}/0', f'{path}:0', path.replace('layer', 'stage'), f'{path}\n', 'backbone.conv1', 'backbone', 'head',
                 '@preact', '[0]', 'distillation', 'data_preprocessor', 'neck', 'neck[0]', 'decode_head', 'bbox_head',
                 'backbone.layer9']
    others = [dict(student=text), dict(student=text, teacher=text), dict(student=text, teacher=text, x=1), dict(tap=text),
              (text, text, text), (text,), (text, 5), (text, None), [text, [text]], dict(student={}, teacher=text), 5, None]
    return [one for one in [*misspelt(text), path, *addresses, *others] if one != text]
