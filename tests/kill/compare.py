"""Comparing two runs bit for bit, and reading what stands in the folder of one that was killed."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch

from mmkd_plugin.utils.checkpoint_files import open_checkpoint

from .records import Record

DATES = ('date',)


def differences(one: Any, other: Any, path: str = '') -> List[str]:
    """Where two values differ, bit for bit: dicts, lists, tensors, numbers and text. Dates do not count."""
    if type(one) is not type(other):
        return [f'{path}: {type(one).__name__} and {type(other).__name__}']
    if isinstance(one, dict):
        here, there = ([key for key in side if key not in DATES] for side in (one, other))
        if set(here) != set(there):
            return [f'{path}: keys {sorted(map(str, set(here) ^ set(there)))}']
        return [line for key in here for line in differences(one[key], other[key], f'{path}.{key}')]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [f'{path}: {len(one)} and {len(other)} items']
        return [line for number, pair in enumerate(zip(one, other)) for line in differences(*pair, f'{path}[{number}]')]
    if isinstance(one, torch.Tensor):
        return [] if same_bits(one, other) else [path]
    if isinstance(one, float):
        return [] if one.hex() == other.hex() else [f'{path}: {one!r} and {other!r}']
    return [] if one == other else [f'{path}: {one!r} and {other!r}']


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have one type, one shape and the same bits (NaN included)."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    one, other = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(one, other)


def outcome_differences(reference: Path, folder: Path, ranks: int) -> List[str]:
    """Where the end of a run differs from the reference's: final states of all ranks, and the files of searches."""
    found = []
    for rank in range(ranks):
        states = [torch.load(side / f'final-{rank}.pt', weights_only=False) for side in (reference, folder)]
        found += differences(*states, f'rank {rank}')
    files = [{path.name for path in (side / 'run').glob('*.json')} for side in (reference, folder)]
    if files[0] != files[1]:
        return [*found, f'files {sorted(files[0])} and {sorted(files[1])}']
    for name in sorted(files[0]):
        found += differences(*(json.loads((side / 'run' / name).read_text()) for side in (reference, folder)), name)
    return found


def loss_differences(reference: Record, record: Record) -> List[str]:
    """The first iteration of a run, if any, with other losses than in the reference."""
    expected = reference.losses()
    for number, losses in sorted(record.losses().items()):
        if losses != expected.get(number):
            return [f'losses of iteration {number}']
    return []


@dataclass(frozen=True)
class Disk:
    """What is left in the folder of a run.

    Attributes:
        pointer: the name of the file that ``last_checkpoint`` names; empty if there is none, or nothing in it.
        whole: the iteration of every checkpoint that can be opened, by its name.
        spoiled: the names of those that cannot.
    """
    pointer: str
    whole: Dict[str, int]
    spoiled: List[str]

    @classmethod
    def of(cls, folder: Path) -> 'Disk':
        """Looks at the folder of a run."""
        named = folder / 'last_checkpoint'
        pointer = Path(named.read_text().strip()).name if named.exists() else ''
        whole, spoiled = {}, []
        for path in sorted([*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]):
            try:
                whole[path.name] = open_checkpoint(path)['meta']['iter']
            except Exception:  # whatever it is: the file is not whole
                spoiled.append(path.name)
        return cls(pointer, whole, spoiled)

    @property
    def newest(self) -> Optional[str]:
        """The whole checkpoint with the most iterations."""
        return max(self.whole, key=self.whole.__getitem__, default=None)

    def unusual(self, name: Optional[str]) -> bool:
        """Whether going on from a checkpoint (None: from the beginning) is not what ``last_checkpoint`` says."""
        return name != (self.pointer or None) or bool(self.spoiled)
