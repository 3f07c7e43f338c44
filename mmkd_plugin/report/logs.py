"""What the ``.log`` of a run says: versions, what was decided, warnings, and the costs of matchings."""
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

from ..utils.errors import shortened
from ..utils.files import lines_of

RECORD = re.compile(r'^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d - [\w.-]{1,100} - (DEBUG|INFO|WARNING|ERROR|CRITICAL) - (.*)$')
PROGRESS = re.compile(r'(?:Iter|Epoch)\(train\)\s+\[\s*(\d{1,12})(?:\]\[\s*(\d{1,12})/\s*(\d{1,12})\]|/)')
MATCHING = re.compile(r'^matching update(?: after (\d{1,12}) iterations)?: .* \(0 to 4\): (.*)$')
COST = re.compile(r'(\S+) (\d+\.?\d*)(?:, |$)')
SETTING = re.compile(r'^\s{2,}([\w .]{1,40}): (.+)$')
DECIDED = re.compile(r"^(model\.|distillation: |teacher: |teachers?\.|custom_hooks has no |[A-Z]\w+Hook\.|search\b|resume: "
                     r"|advice: |no GPU: |the student's memory format|matching update|preflight: )")
"""How the lines begin that this package logs."""
ENVIRONMENT = ('System environment:', 'Runtime environment:')
MOST_LINES, LONGEST_LINE, MOST_NOTES, LONGEST_NOTE = 5 * 10 ** 6, 10 ** 4, 300, 600


@dataclass
class Log:
    """What the logs of a run say.

    Attributes:
        versions: those of packages, and what the machine is, by name, as mmengine lists them.
        decisions: what this package said, each line once, in order.
        warnings: warnings and errors by text, with how often each came.
        matching: by ``<distiller>.<stage>``, the iterations of matchings and the mean cost of the matched channels.
        left_out: how many further decisions or warnings there were.
    """
    versions: Dict[str, str] = field(default_factory=dict)
    decisions: List[str] = field(default_factory=list)
    warnings: Dict[str, int] = field(default_factory=dict)
    matching: Dict[str, List[Tuple[int, float]]] = field(default_factory=dict)
    left_out: int = 0

    def take(self, level: str, text: str, position: int) -> None:
        """Takes the first line of a record.

        Args:
            level: its level.
            text: what it says.
            position: the iteration that was logged before it.
        """
        matching = MATCHING.match(text)
        if matching:
            done = position if matching[1] is None else int(matching[1])
            for name, cost in COST.findall(matching[2]):
                self.matching.setdefault(name, []).append((done, float(cost)))
        note = shortened(text, LONGEST_NOTE)
        if level in ('WARNING', 'ERROR', 'CRITICAL'):
            if note in self.warnings or len(self.warnings) < MOST_NOTES:
                self.warnings[note] = self.warnings.get(note, 0) + 1
            else:
                self.left_out += 1
        elif DECIDED.match(text) and not matching and note not in self.decisions:
            if len(self.decisions) < MOST_NOTES:
                self.decisions.append(note)
            else:
                self.left_out += 1


def read_logs(files: Iterable[Path]) -> Log:
    """What the logs of one run say.

    Args:
        files: those of one run, the oldest first.
    """
    log = Log()
    for file in files:
        position, in_environment = 0, False
        for line in lines_of(file, MOST_LINES, LONGEST_LINE):
            record = RECORD.match(line)
            if record:
                log.take(record[1], record[2], position)
                position = _position(record[2]) or position
                in_environment = False
            elif line.strip() in ENVIRONMENT:
                in_environment = True
            elif line.startswith('Config:'):
                in_environment = False
            elif in_environment:
                setting = SETTING.match(line)
                if setting and len(log.versions) < MOST_NOTES:
                    log.versions[setting[1].strip()] = shortened(setting[2], LONGEST_NOTE)
    return log


def _position(text: str) -> Optional[int]:
    """The iteration that a line of progress stands for."""
    found = PROGRESS.search(text)
    if found is None:
        return None
    first, inside, length = found.groups()
    return int(first) if inside is None else (int(first) - 1) * int(length) + int(inside)
