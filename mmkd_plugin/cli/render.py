"""A distilled config as text: readable, with a reason beside what was decided."""
from typing import Any, Dict, Optional, Sequence

from .methods import Plan

WIDTH = 120


def rendered(header: Sequence[str], base: str, imports: Sequence[str], teacher: Dict[str, Any],
             shape: Optional[Sequence[int]], work_dir: Optional[str], plan: Plan) -> str:
    """The text of a distilled config.

    Args:
        header: lines of the comment at its top.
        base: what stands under ``_base_``.
        imports: modules that it imports.
        teacher: the block of the teacher.
        shape: ``image_shape``; None for the default.
        work_dir: where the run works; None: that follows from the name of the config.
        plan: the distillers, the search, and the reasons.
    """
    reasons = {decision.key: decision.reason for decision in plan.decisions}
    lines = [*(f'# {line}' for line in header), f'_base_ = {base!r}', f'custom_imports = dict(imports={list(imports)!r})']
    if work_dir is not None:
        lines.append(f'work_dir = {work_dir!r}  # {reasons.get("work_dir", "")}')
    lines += ['', 'model = dict(', '    _delete_=True,  # the model of the base stands under student',
              "    type='mmkd.DistilledModel',", '    student={{_base_.model}},', f'    teacher={_dict(teacher, 4)},']
    if shape is not None:
        lines.append(f'    image_shape={tuple(shape)!r},  # {reasons.get("image_shape", "")}')
    lines.append('    distillers=dict(')
    for name, block in plan.distillers.items():
        lines.append(f'        {name}=dict(')
        for key, value in block.items():
            reason = reasons.get(f'{name}.{key}')
            lines += [f'            # {reason}'] if reason else []
            lines.append(f'            {key}={_value(value, 12)},')
        lines.append('        ),')
    lines += ['    ))', '']
    if plan.search is not None:
        lines += ['# The search comes first, in a part of the training set: `mmkd train` runs it before the training.',
                  *(f'# {key}: {reason}' for key, reason in reasons.items() if key.startswith('search.')),
                  f'search = {_dict(plan.search, 0)}', '']
    return '\n'.join(lines)


def _dict(content: Dict[str, Any], indent: int) -> str:
    line = inline(content)
    if indent + len(line) < WIDTH - 10:
        return line
    inside = ' ' * (indent + 4)
    rows = ''.join(f'{inside}{key}={_value(value, indent + 4)},\n' for key, value in content.items())
    return f'dict(\n{rows}{" " * indent})'


def _value(value: Any, indent: int) -> str:
    if isinstance(value, dict):
        return _dict(value, indent)
    line = inline(value)
    if isinstance(value, list) and indent + len(line) > WIDTH - 20:
        inside = ' ' * (indent + 4)
        return '[\n' + ''.join(f'{inside}{_value(item, indent + 4)},\n' for item in value) + ' ' * indent + ']'
    return line


def inline(value: Any) -> str:
    """A value as a config has it, in one line; a pair of equal addresses is one address."""
    if isinstance(value, dict):
        return f'dict({", ".join(f"{key}={inline(item)}" for key, item in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(inline, value))}]'
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1] and isinstance(value[0], str):
        return repr(value[0])
    return repr(value)
