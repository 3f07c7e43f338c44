"""Preparing the kinds of inputs, and trying one."""
import random
from pathlib import Path
from typing import Dict, Iterable, List, Tuple, Type

import mmdet.models  # noqa: F401 (registers everything once, before children are forked)
import mmpretrain.models  # noqa: F401
import mmseg.models  # noqa: F401
import numpy as np
import torch

import mmkd_plugin  # noqa: F401 (registers everything)

from . import training
from .artefacts import Artefacts
from .checkpoints import Checkpoints
from .child import Report
from .configs import Configs
from .inputs import Input, Kind
from .judge import judged
from .sections import Sections

KINDS: Dict[str, Type[Kind]] = {kind.name: kind for kind in (Configs, Artefacts, Checkpoints, Sections)}
SHARES = dict(configs=55, artefacts=15, checkpoints=15, sections=15)


def prepared(names: Iterable[str], folder: Path) -> Dict[str, Kind]:
    """The kinds, in a process that has imported what their children need and runs one thread."""
    torch.set_num_threads(1)
    training.spare_reports()
    kinds = {}
    for name in KINDS:
        if name in set(names):
            (folder / name).mkdir()
            kinds[name] = KINDS[name](folder / name)
    return kinds


def tried(kind: Kind, seed: int, index: int) -> Tuple[Input, Report, str, List[str]]:
    """An input, what became of it, the outcome, and why where it is a bad one."""
    one = kind.input(seed, index)
    for generator in (random.seed, np.random.seed, torch.manual_seed):  # what children begin with
        generator(0)
    report = kind.run(one)
    outcome, why = judged(one, report)
    if outcome in ('TRACEBACK', 'UNCLEAR') and not one.ours and one.plain is not None:
        plain = kind.run(one, one.plain)
        if plain.kind != 'done' and ' '.join(plain.text.split())[:40] in ' '.join(report.text.split()):
            return one, report, 'MM_ERROR', []
        why.append(f'without this package: {plain.kind} {plain.error} {plain.text[:200]}')
    return one, report, outcome, why
