"""What goes wrong in a run, at a place of our choosing, and groups of ranks in which it does.

``python tests/faults.py FOLDER CASE ...`` runs cases of distributed faults, one after the other; what became of each rank is
in ``FOLDER/CASE/result.json`` then.
"""
import json
import os
import re
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import torch
from long_runs import method_cfg
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from zoo import ToyDataset

from mmkd_plugin.utils.launch import prepare_for_cpu

TIMEOUT = 15
"""Seconds after which a rank that waits for another gives up."""
LIMIT = 60
"""Seconds after the first in which all ranks have to end."""
UNTIL_THE_FAULT = 180
"""Seconds in which something has to happen at all, on a machine that is busy."""
LOST = r'Connection (closed|reset)|[Tt]imed? ?out|Broken pipe|pair closure|no longer reachable'
"""What gloo says of a rank that is gone, or does not answer."""
WORKER_GONE = 'DataLoader worker'
"""What is said of a worker that is gone."""


def _raise(item):
    raise OSError('the file of this image cannot be read')


def _nan(item):
    return {**item, 'inputs': torch.full_like(item['inputs'], torch.nan, dtype=torch.float32)}


def _signal(number):
    def send(item):
        os.kill(os.getpid(), number)
        return item  # once it is told to go on
    return send


FAULTS: Dict[str, Callable[[dict], dict]] = {
    'exception': _raise, 'nan': _nan, 'exit': lambda item: os._exit(3), 'kill': _signal(signal.SIGKILL),
    'stop': _signal(signal.SIGSTOP)}
"""What may happen when an item is read, in whatever process reads it."""


@DATASETS.register_module(force=True)
class FaultyDataset(ToyDataset):
    """Samples of one scope; reading one of them goes wrong.

    Args:
        fault: one of ``FAULTS``.
        at: index of the item.
    """

    def __init__(self, scope, length=8, fault='exception', at=5, pipeline=()):
        super().__init__(scope, length)
        self.fault, self.at = fault, at

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return FAULTS[self.fault](item) if index == self.at else item


def faulty_loader(scope, fault, at=5, length=8, workers=0):
    """A loader of :class:`FaultyDataset`, in order."""
    dataset = dict(type='FaultyDataset', _scope_='mmengine', scope=scope, fault=fault, at=at, length=length)
    return dict(batch_size=2, num_workers=workers, dataset=dataset, collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='DefaultSampler', shuffle=False, _scope_='mmengine'))


class FailingForward(Hook):
    """Lets the student's forward fail in an iteration of one rank."""

    def __init__(self, rank, iteration=2):
        self.rank, self.iteration = rank, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration and runner.rank == self.rank:
            runner.model.module.backbone.register_forward_pre_hook(self._fail)

    @staticmethod
    def _fail(module, args):
        raise RuntimeError('the forward of this rank fails')


@dataclass(frozen=True)
class Case:
    """A run of several ranks of which one fails (the last, or the first where the fault says so), or of one.

    Attributes:
        ranks: how many.
        method: what is trained, see ``long_runs.METHODS``.
        fault: one of ``EXPECTED``.
    """
    ranks: int
    method: str
    fault: str

    @classmethod
    def named(cls, name: str) -> 'Case':
        """The case of a name such as ``2-mgd-kill``, ``4-dfa-search-fewer_batches``."""
        ranks, _, rest = name.partition('-')
        method, _, fault = rest.rpartition('-')
        return cls(int(ranks), method, fault)

    @property
    def name(self) -> str:
        return f'{self.ranks}-{self.method}-{self.fault}'

    @property
    def failing(self) -> int:
        """The number of the rank that fails."""
        return 0 if self.fault.endswith('_first') else self.ranks - 1


EXPECTED = {  # fault -> what the rank that fails says, and what the others say
    'none': ('finished', 'finished'),
    'short_batch': ('finished', 'finished'),  # the last batch of one rank is smaller
    'fewer_batches': ('DistillationError: .*train_dataloader.*batches',) * 2,  # on one rank than on another
    'nan': ('DistillationError: .*NaN or infinity', LOST),
    'exception': ('OSError: the file of this image cannot be read', LOST),
    'forward': ('RuntimeError: the forward of this rank fails', LOST),
    'kill': ('ended by SIGKILL', LOST),
    'kill_first': ('ended by SIGKILL', LOST),  # which writes checkpoints and results
    'stop': (LOST, LOST),  # it is told to go on once the others have ended
    'worker_exit': (WORKER_GONE, ''), 'worker_kill': (WORKER_GONE, '')}  # of the hook's loader, or of the training's


@dataclass
class Rank:
    """What became of a rank.

    Attributes:
        said: ``finished``, the error, the signal that ended it, or ``still running``.
        seconds: when it ended, after the first that ended or was stopped.
    """
    said: str
    seconds: float


def faulty_run(case: Case, folder: Path) -> None:
    """What every rank of a case does: two epochs of four batches; or one process, whose loader has a worker that dies."""
    fault = case.fault.removesuffix('_first')
    if case.ranks == 1:
        which = 'data' if case.method == 'features' else 'validation'
        data = faulty_loader('mmpretrain', fault.removeprefix('worker_'), 21, 64, workers=1)
        cfg = method_cfg(case.method, 'mmpretrain', folder, 60, **{which: data})
        for hook in cfg.custom_hooks if case.method == 'mgd' else ():
            hook.update(num_images=64)
    else:
        length = dict(short_batch=8 * case.ranks - 1, fewer_batches=6 * case.ranks + 1).get(fault, 8 * case.ranks)
        at = 4 * case.ranks + case.failing  # the sampler deals the items out: the first of the third batch of that rank
        data = faulty_loader('mmpretrain', fault, at if fault in FAULTS else -1, length)
        cfg = method_cfg(case.method, 'mmpretrain', folder, 4, data)
        cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False, round_up=False, _scope_='mmengine')
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
        cfg.log_processor.by_epoch = cfg.default_hooks.checkpoint.by_epoch = True
        cfg.update(launcher='pytorch', env_cfg=dict(dist_cfg=dict(timeout=TIMEOUT)))
        prepare_for_cpu(cfg)
    runner = Runner.from_cfg(cfg)
    if fault == 'forward':
        runner.register_hook(FailingForward(case.failing))
    runner.train()


def run_ranks(case: Case, folder: Path) -> List[Rank]:
    """Forks the ranks of a case and waits until all have ended, or the limit is over; then what is left is killed."""
    with rendezvous() as port:
        pids = [_fork(lambda rank=rank: _work_of_rank(case, rank, port, folder)) for rank in range(case.ranks)]
        ended: Dict[int, float] = {}
        begun, first, told = time.monotonic(), 0., False
        while len(ended) < case.ranks and time.monotonic() < (first + LIMIT if first else begun + UNTIL_THE_FAULT):
            for rank, pid in enumerate(pids):
                changed, status = (0, 0) if rank in ended else os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
                if changed:
                    first = first or time.monotonic()
                if changed and not os.WIFSTOPPED(status):
                    ended[rank] = time.monotonic() - first
                    _note_end(folder / f'rank{rank}.txt', status)
            if case.fault == 'stop' and not told and set(ended) == set(range(case.ranks - 1)):
                os.kill(pids[-1], signal.SIGCONT)
                told = True
            time.sleep(.02)
        for rank, pid in enumerate(pids):
            if rank not in ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    said = [folder / f'rank{rank}.txt' for rank in range(case.ranks)]
    return [Rank(path.read_text() if rank in ended else 'still running', round(ended.get(rank, -1), 1))
            for rank, path in enumerate(said)]


def _note_end(path: Path, status: int) -> None:
    if os.WIFSIGNALED(status):
        path.write_text(f'ended by {signal.Signals(os.WTERMSIG(status)).name}')
    elif not path.exists():
        path.write_text(f'ended with code {os.WEXITSTATUS(status)}, without a word')


def _work_of_rank(case: Case, rank: int, port: int, folder: Path) -> None:
    log = os.open(folder / f'rank{rank}.log', os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if case.ranks > 1:  # as torchrun has it: a process of its own keeps the store through which the ranks find each other
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(case.ranks), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE='True')
    torch.set_num_threads(1)
    said = 'finished'
    try:
        try:
            faulty_run(case, folder)
        finally:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises wherever this process happens to be
    except BaseException as error:
        traceback.print_exc()
        said = f'{type(error).__name__}: {error}'
    (folder / f'rank{rank}.txt').write_text(said)


@contextmanager
def rendezvous() -> Iterator[int]:
    """The port, chosen by the system, of a store through which ranks find each other, while inside."""
    receiver, sender = os.pipe()

    def keep() -> None:
        store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
        os.write(sender, str(store.port).encode())
        os.close(sender)
        signal.pause()

    pid = _fork(keep)
    os.close(sender)
    try:
        yield int(os.read(receiver, 20))
    finally:
        os.close(receiver)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def wrong(case: Case, ranks: List[Rank]) -> List[str]:
    """What of a case is not as it should be."""
    mine, others = EXPECTED[case.fault]
    found = []
    for number, rank in enumerate(ranks):
        expected = mine if number == case.failing else others
        if not re.search(expected, rank.said, re.DOTALL):
            found.append(f'rank {number} says {rank.said[:300]!r}, not {expected!r}')
        if not 0 <= rank.seconds <= LIMIT:
            found.append(f'rank {number} has not ended in {LIMIT} s')
    return found


def main() -> None:
    import_module('mmpretrain.models')  # once, not in every rank
    folder = Path(sys.argv[1])
    for name in sys.argv[2:]:
        case = Case.named(name)
        (folder / name).mkdir(parents=True)
        ranks = run_ranks(case, folder / name)
        (folder / name / 'result.json').write_text(json.dumps([asdict(rank) for rank in ranks]))


if __name__ == '__main__':
    main()
