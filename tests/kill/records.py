"""What a run writes down about itself, and what is read of it by whoever compares runs. Lines survive any kill."""
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List

from mmengine.hooks import Hook

BEGUN, ITERATION, MOMENT, FAILED, ENDED = 'begun', 'iteration', 'moment', 'failed', 'ended'


class Record:
    """A file with a line for each event of one process."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: str, **values: Any) -> None:
        """Adds a line, in one call of the system: it is there whole or not at all."""
        line = json.dumps(dict(event=event, time=time.monotonic(), **values)) + '\n'
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def events(self) -> List[Dict[str, Any]]:
        """All lines, oldest first."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def has(self, event: str) -> bool:
        """Whether there is a line of a kind."""
        return any(line['event'] == event for line in self.events())

    def losses(self) -> Dict[int, Dict[str, str]]:
        """By the number of an iteration, from 1: its losses, bit for bit."""
        return {line['number']: line['losses'] for line in self.events() if line['event'] == ITERATION}


class RecordingHook(Hook):
    """Writes the losses of every iteration into a record, before anything else is done with them."""
    priority = 'VERY_HIGH'

    def __init__(self, record: Record):
        self.record = record

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.record.write(ITERATION, number=runner.iter + 1,
                          losses={name: float(value).hex() for name, value in outputs.items()})
