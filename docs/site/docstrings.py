"""Docstrings as the site's markdown: roles become links, literal blocks code, `a, b:` a row for each argument."""
import re
import textwrap
from contextlib import suppress
from typing import Any, Dict, Iterator, Optional

import griffe

ROLE = re.compile(r':(?:class|func|meth|mod|attr|data):`([^`]+)`')
LITERAL = re.compile(r'::\n\n((?:(?: {4,}[^\n]*)?\n)+)', re.MULTILINE)
SHARED = re.compile(r'^(?P<indent> +)(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)+): (?P<text>[^\n]*(?:\n(?P=indent) +[^\n]+)*)',
                    re.MULTILINE)


class SiteMarkdown(griffe.Extension):
    """Rewrites every docstring of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Names are known only when all modules are, so this comes last."""
        known: Dict[str, Optional[griffe.Object]] = {}
        for entry in walk(pkg):  # a short name that two things have leads to neither
            known[entry.name] = entry if entry.name not in known else None
        for entry in walk(pkg):
            if entry.docstring:
                entry.docstring.value = as_markdown(entry.docstring.value, entry, known)


def walk(entry: griffe.Object) -> Iterator[griffe.Object]:
    """An object and whatever is defined in it."""
    yield entry
    for member in entry.members.values():
        if not member.is_alias:
            yield from walk(member)


def as_markdown(text: str, entry: griffe.Object, known: Dict[str, Optional[griffe.Object]]) -> str:
    """A docstring of ``entry`` as markdown."""
    text = LITERAL.sub(lambda block: f':\n\n```python\n{textwrap.dedent(block[1]).strip()}\n```\n\n', text + '\n').rstrip()
    text = SHARED.sub(one_row_each, text)
    return ROLE.sub(lambda role: link(role[1], entry, known), text)


def one_row_each(rows: 're.Match[str]') -> str:
    """``student, teacher: features`` as a row of each."""
    return '\n'.join(f'{rows["indent"]}{name}: {rows["text"]}' for name in rows['names'].split(', '))


def link(target: str, entry: griffe.Object, known: Dict[str, Optional[griffe.Object]]) -> str:
    """A link to what a role names, or its name where the site does not show it."""
    path = target.lstrip('~')
    shown = path.split('.')[-1] if target.startswith('~') else path
    found = named(path, entry) or known.get(path.split('.')[-1])
    return f'[`{shown}`][{found.path}]' if found and is_shown(found) else f'`{shown}`'


def named(path: str, entry: griffe.Object) -> Optional[griffe.Object]:
    """What a dotted name leads to from an object, or from one that it is in."""
    scope: Optional[griffe.Object] = entry
    while scope is not None:
        with suppress(KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
            found = scope[path.removeprefix(f'{scope.path}.')]
            return found.final_target if found.is_alias else found
        scope = scope.parent
    return None


def is_shown(entry: griffe.Object) -> bool:
    """Whether a page of the API has it: documented, public, in a folder of the package."""
    parts = entry.path.split('.')
    return len(parts) > 2 and entry.has_docstring and not any(part.startswith('_') for part in parts)
