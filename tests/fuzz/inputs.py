"""What an input of a fuzzing run is, and the kinds there are."""
import hashlib
import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from .child import Report, run_in_child
from .mutations import Mutation


@dataclass
class Input:
    """One thing to try.

    Attributes:
        base: what is mutated, by name.
        mutations: what is changed.
        work: runs it in the present folder; returns facts.
        setting: puts files into a folder before ``work`` runs there.
        legitimate: given the facts of a run that accepted the input, what is wrong with that; nothing where it is right.
        names: any of these texts in a message names what was changed.
        ours: whether what was changed belongs to this package; otherwise mm's own errors are as good.
        plain: for what is not ours: runs the same without this package.
        about: more for the report.
    """
    base: str
    mutations: List[Mutation]
    work: Callable[[], Dict[str, Any]]
    setting: Callable[[Path], None] = lambda folder: None
    legitimate: Callable[[Dict[str, Any]], List[str]] = lambda facts: []
    names: List[str] = field(default_factory=list)
    ours: bool = True
    plain: Optional[Callable[[], Dict[str, Any]]] = None
    about: str = ''
    file_bytes: Optional[int] = None

    def __str__(self) -> str:
        return f'{self.base}: {"; ".join(map(str, self.mutations))}{f" [{self.about}]" if self.about else ""}'


class Kind:
    """A kind of input. Whatever it makes is a function of the seed and the index."""
    name = ''

    def __init__(self, folder: Path):
        self.folder = folder
        """For what several inputs share; it is there as long as the kind."""

    def make(self, number: int, chance: random.Random) -> Input:
        """The input of a number.

        Args:
            number: drawn from the seed and the index.
            chance: draws that are made of the same number.
        """
        raise NotImplementedError

    def input(self, seed: int, index: int) -> Input:
        """The input of a seed and an index."""
        number = number_of(self.name, seed, index)
        return self.make(number, random.Random(number))

    def run(self, one: Input, work: Optional[Callable[[], Dict[str, Any]]] = None) -> Report:
        """Tries an input in a folder of its own, which is removed afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix='input-'))
        try:
            one.setting(folder)
            return run_in_child(work or one.work, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def number_of(*parts: Any) -> int:
    """A number that is a function of the parts."""
    return int.from_bytes(hashlib.sha256(':'.join(map(str, parts)).encode()).digest()[:8], 'big')
