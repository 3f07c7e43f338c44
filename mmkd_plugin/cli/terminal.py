"""What the commands print."""
import sys
from typing import Sequence

from rich.console import Console

from .methods import Decision
from .render import inline

WIDE = 160
"""Columns where the output goes to a file or a pipe, which has no width of its own."""


def console() -> Console:
    """The terminal, or a file, in which no table is cut off."""
    return Console(width=None if sys.stdout.isatty() else WIDE, file=sys.stdout)


def print_decisions(decisions: Sequence[Decision]) -> None:
    """One line for each decision, with its reason."""
    for decision in decisions:
        text = f'  {decision.key} = {inline(decision.value)}: {decision.reason}'
        console().print(text, markup=False, highlight=False, soft_wrap=True)
