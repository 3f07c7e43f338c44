"""How the package is built: small files, classes and functions, and a docstring for whatever others may call."""
import ast
import functools
import re
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple, Union

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmkd_plugin'
SOURCES = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob('*.py'))}
FILE_LINES, FUNCTION_LINES, FORWARD_LINES, PUBLIC_METHODS = 400, 60, 20, 12

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED_OUTSIDE: Dict[str, Set[str]] = {
    'Module': {'forward'}, 'Sequential': {'forward'}, 'BaseModule': {'forward'},
    'Base': {'forward', 'init_weights'},  # mmengine's BaseModel, see model/overlay.py
    'Hook': {f'{when}_{what}' for when in ('before', 'after') for what in ('train', 'train_epoch', 'train_iter')}
    | {'before_save_checkpoint', 'after_load_checkpoint'}}
"""Methods of classes of torch and mmengine that say themselves what they are, by the name of the class."""


parsed = functools.cache(ast.parse)


def is_public(node: Union[ast.ClassDef, ast.FunctionDef]) -> bool:
    return not node.name.startswith('_')


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """The classes of a module, and those in them (not those in functions)."""
    for node in getattr(tree, 'body', ()):
        if isinstance(node, ast.ClassDef):
            yield node
            yield from classes(node)


def methods(node: ast.ClassDef) -> List[ast.FunctionDef]:
    return [child for child in node.body if isinstance(child, Function)]


def length(node: ast.FunctionDef) -> int:
    return node.end_lineno - node.lineno + 1


def documented_methods(sources: Dict[str, str]) -> Dict[str, Tuple[Set[str], Set[str]]]:
    """By the name of a class: which of its methods have a docstring, and the names of its bases."""
    found = {name: (set(names), set()) for name, names in DOCUMENTED_OUTSIDE.items()}
    for source in sources.values():
        for node in classes(parsed(source)):
            own, bases = found.setdefault(node.name, (set(), set()))
            own.update(method.name for method in methods(node) if ast.get_docstring(method))
            bases.update(base_names(node))
    return found


def base_names(node: ast.ClassDef) -> List[str]:
    return [ast.unparse(base).split('[')[0].split('.')[-1] for base in node.bases]


def inherits_docstring(name: str, bases: List[str], known: Dict[str, Tuple[Set[str], Set[str]]]) -> bool:
    waiting, seen = list(bases), set()
    while waiting:
        base = waiting.pop()
        if base in seen or base not in known:
            continue
        seen.add(base)
        own, further = known[base]
        if name in own:
            return True
        waiting.extend(further)
    return False


def long_files(sources: Dict[str, str]) -> List[str]:
    return [f'{file} has {len(source.splitlines())} lines' for file, source in sources.items()
            if len(source.splitlines()) > FILE_LINES]


def long_functions(sources: Dict[str, str]) -> List[str]:
    return [f'{file}: {node.name} has {length(node)} lines' for file, source in sources.items()
            for node in ast.walk(parsed(source)) if isinstance(node, Function) and length(node) > FUNCTION_LINES]


def wide_classes(sources: Dict[str, str]) -> List[str]:
    found = []
    for file, source in sources.items():
        for node in classes(parsed(source)):
            count = sum(map(is_public, methods(node)))
            if count > PUBLIC_METHODS:
                found.append(f'{file}: {node.name} has {count} public methods')
    return found


def long_student_forward(sources: Dict[str, str]) -> List[str]:
    """What a reader of the overlay has to take in at once: it is there, and short."""
    found = [method for source in sources.values() for node in classes(parsed(source)) if node.name == 'DistilledMixin'
             for method in methods(node) if method.name == 'forward']
    if not found:
        return ['there is no DistilledMixin.forward']
    return [f'DistilledMixin.forward has {length(method)} lines' for method in found if length(method) > FORWARD_LINES]


def without_docstring(sources: Dict[str, str]) -> List[str]:
    """Modules, and public classes, functions and methods, except for methods whose base has one for them."""
    known, found = documented_methods(sources), []
    for file, source in sources.items():
        tree = parsed(source)
        if not ast.get_docstring(tree):
            found.append(f'{file} itself')
        found += [f'{file}: {node.name}' for node in tree.body
                  if isinstance(node, Function) and is_public(node) and not ast.get_docstring(node)]
        for node in filter(is_public, classes(tree)):
            if not ast.get_docstring(node):
                found.append(f'{file}: {node.name}')
            found += [f'{file}: {node.name}.{method.name}' for method in methods(node)
                      if is_public(method) and not ast.get_docstring(method)
                      and not inherits_docstring(method.name, base_names(node), known)]
    return found


def arguments_that_begin_with_of(sources: Dict[str, str]) -> List[str]:
    """``seed: of the order`` has to be read twice."""
    found = []
    for file, source in sources.items():
        for node in ast.walk(parsed(source)):
            text = ast.get_docstring(node) if isinstance(node, (*Function, ast.ClassDef)) else None
            found += [f'{file}: {node.name}: {line.strip()}' for line in (text or '').splitlines()
                      if re.match(r'\s+\w+(, \w+)*: of ', line)]
    return found


RULES = [long_files, long_functions, wide_classes, long_student_forward, without_docstring, arguments_that_begin_with_of]


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    assert SOURCES
    assert rule(SOURCES) == []


LINES = '\n'.join(f'    x = {number}' for number in range(FUNCTION_LINES))
MANY = '\n'.join(f'    def m{number}(self): pass' for number in range(PUBLIC_METHODS + 1))
BASE = 'class Kind:\n    """A."""\n    def fits(self):\n        """Whether."""\n'


@pytest.mark.parametrize(('rule', 'source', 'complaint'), [
    (long_files, 'x = 1\n' * (FILE_LINES + 1), 'a.py has 401 lines'),
    (long_functions, f'class A:\n  def f():\n{LINES}', 'a.py: f has 61 lines'),
    (wide_classes, f'class A:\n{MANY}', 'a.py: A has 13 public methods'),
    (wide_classes, 'class A:\n  class B:\n' + MANY.replace('    ', '        '), 'a.py: B has 13 public methods'),
    (long_student_forward, f'class DistilledMixin:\n  def forward(self):\n{LINES}', 'DistilledMixin.forward has 61 lines'),
    (long_student_forward, 'class DistilledMixin: pass', 'there is no DistilledMixin.forward'),
    (without_docstring, 'x = 1', 'a.py itself'),
    (without_docstring, '"""A."""\ndef f(): pass', 'a.py: f'),
    (without_docstring, '"""A."""\nclass A: pass', 'a.py: A'),
    (without_docstring, '"""A."""\nclass A:\n    """A."""\n    def f(self): pass', 'a.py: A.f'),
    (without_docstring, f'"""A."""\n{BASE}class A(Kind):\n    """A."""\n    def read(self): pass', 'a.py: A.read'),
    (without_docstring, '"""A."""\nclass A(Elsewhere):\n    """A."""\n    def fits(self): pass', 'a.py: A.fits'),
    (arguments_that_begin_with_of, 'def f():\n    """F.\n\n    Args:\n        a, b: of it.\n    """',
     'a.py: f: a, b: of it.')])
def test_the_rule_can_be_broken(rule, source, complaint):
    assert rule({'a.py': source}) == [complaint]


@pytest.mark.parametrize('source', [
    '"""A."""\ndef _f(): pass\nclass _A:\n    def f(self): pass',
    '"""A."""\nclass A:\n    """A."""\n    def __init__(self): pass\n    def _f(self): pass',
    f'"""A."""\n{BASE}class B(Kind):\n    """B."""\nclass A(options.B):\n    """A."""\n    def fits(self): pass',
    '"""A."""\nclass A(nn.Module):\n    """A."""\n    def forward(self): pass'])
def test_no_docstring_is_asked_for_where_none_is_needed(source):
    assert without_docstring({'a.py': source}) == []
