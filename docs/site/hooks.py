"""Pages of the site that are not in docs/: README, CONTRIBUTING and CHANGELOG, and the API, a page for each room."""
import ast
import re
from pathlib import Path
from typing import Dict, List, Tuple

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
FROM_THE_ROOT = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}
CODE = re.compile(r'<code>[^<]*</code>')
LINK = re.compile(r'(?<=\]\()([\w./-]+)(?=[#)])')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages of the API in the navigation."""
    for section in config.nav:
        for entry in next(iter(section.values())):
            if isinstance(entry, dict) and 'API' in entry:
                entry['API'] = [f'api/{room}.md' for room in rooms()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for source, page in FROM_THE_ROOT.items():
        files.append(File.generated(config, page, content=as_page((ROOT / source).read_text())))
    for room, (title, modules) in rooms().items():
        files.append(File.generated(config, f'api/{room}.md', content=api_page(room, title, modules)))
    return files


def on_page_content(html: str, **kwargs: object) -> str:
    """Takes the backslash from a bar inside code: GitHub needs it in a cell of a table, and the site would show it."""
    return CODE.sub(lambda code: code[0].replace('\\|', '|'), html)


def as_page(text: str) -> str:
    """A file of the root with its links as seen from docs/; what is no page of the site is named without a link."""
    def moved(match: 're.Match[str]') -> str:
        target = match[1]
        return FROM_THE_ROOT.get(target) or target.removeprefix('docs/')

    return LINK.sub(moved, re.sub(r'\[([^]]+)\]\(LICENSE\)', r'\1', text)).replace('src="docs/', 'src="')


def rooms() -> Dict[str, Tuple[str, List[str]]]:
    """The folders of the package: their first line, and the modules of each."""
    found = {}
    for folder in sorted(path.parent for path in (ROOT / 'mmkd_plugin').glob('*/__init__.py')):
        inner = [path.parent if path.name == '__init__.py' else path.with_suffix('') for path in folder.rglob('*.py')]
        shown = [path for path in sorted(inner) if path != folder and not path.name.startswith('_')]
        modules = ['.'.join(path.relative_to(ROOT).parts) for path in shown]
        found[folder.name] = (first_line(folder / '__init__.py'), modules)
    return found


def first_line(path: Path) -> str:
    """What a module says of itself first, as markdown."""
    return (ast.get_docstring(ast.parse(path.read_text())) or '').split('\n\n')[0].replace('\n', ' ').replace('``', '`')


def api_page(room: str, title: str, modules: List[str]) -> str:
    """A page that shows a folder of the package, module by module."""
    parts = [f'---\ntitle: {room}\n---\n\n# `mmkd_plugin.{room}`', title]
    parts += [f'::: {name}\n    options:\n      heading_level: 2' for name in modules]
    return '\n\n'.join(parts) + '\n'
