"""The pages of the documentation: their fenced blocks, the commands in them, and their headings as anchors."""
import re
import shlex
import textwrap
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')] + sorted((ROOT / 'docs').rglob('*.md'))
FENCED = re.compile(r'^( *)```(\w*)\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r'`((?:mmkd|python|make|bash) [^`]+)`')


class Block(NamedTuple):
    """A fenced block: where it stands, its language, and what is in it."""
    place: str
    language: str
    text: str


def name_of(page: Path) -> str:
    """The path of a page from the root."""
    return str(page.relative_to(ROOT))


def blocks(language: str) -> List[Block]:
    """All blocks of a language."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in FENCED.finditer(text):
            line = text.count('\n', 0, block.start()) + 1
            found.append(Block(f'{name_of(page)}:{line}', block[2], textwrap.dedent(block[3])))
    return [block for block in found if block.language == language]


def commands() -> Iterator[Tuple[str, str]]:
    """(place, command) of whatever a reader may type: lines of bash blocks, and commands in the text."""
    for block in blocks('bash'):
        variables = {}
        for line in block.text.replace('\\\n', ' ').splitlines():
            line = re.sub(r'\$(\w+)', lambda name: variables.get(name[1], name[0]), line)  # noqa: B023
            given = re.fullmatch(r'(\w+)=(\S+)', line)
            if given:
                variables[given[1]] = given[2]
            elif line.strip():
                yield block.place, ' '.join(map(shlex.quote, shlex.split(line, comments=True)))
    for page in PAGES:
        for command in COMMAND.findall(FENCED.sub('', page.read_text())):
            yield name_of(page), command


def anchors(text: str) -> List[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    found: List[str] = []
    for heading in re.findall(r'^#+ (.+)$', FENCED.sub('', text), re.MULTILINE):
        plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
        slug = re.sub(r'[^\w\- ]', '', plain).strip().lower().replace(' ', '-')
        found.append(slug if slug not in found else f'{slug}-{found.count(slug)}')
    return found
