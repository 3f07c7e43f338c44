"""One training of a case, in a process of its own: forked from one that has imported everything."""
import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmkd_plugin.model.checkpoint import stateful_hooks

from .moments import Moment, install
from .records import BEGUN, ENDED, FAILED, MOMENT, Record, RecordingHook

DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl


def fork(task: Callable[[], None], log: Path) -> int:
    """Runs a task in a process of its own, a group of its own, with its output in a file. Returns the process's id.

    The exit code is 0 when the task has returned, 1 when it has raised.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
        if os.getppid() == parent:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            faulthandler.enable()
            task()
            code = 0
    except BaseException:  # whatever it is, it ends here: this is a copy of the parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def train(cfg: Config, record: Record, final: Optional[Path] = None, rank: Tuple[int, int] = (0, 1),
          meeting: Optional[Path] = None, moment: Optional[Tuple[Moment, int]] = None) -> None:
    """Trains, and keeps what came of it.

    Args:
        cfg: of the run.
        record: told when training begins and ends, and the losses of each iteration.
        final: where the state at the end is saved, if it is wanted.
        rank: of this process, and how many there are.
        meeting: the file over which several processes find each other.
        moment: a moment to die in, and in which of its calls.
    """
    record.write(BEGUN)
    try:
        if meeting is not None:
            meet(rank, meeting)
        if moment is not None:
            install(*moment, lambda: record.write(MOMENT, name=moment[0].name))
        runner = Runner.from_cfg(cfg)
        runner.register_hook(RecordingHook(record))
        runner.train()
        if final is not None:
            torch.save(state(runner), final)
    except Exception as error:
        record.write(FAILED, error=f'{type(error).__name__}: {error}')
        raise
    record.write(ENDED)


def meet(rank: Tuple[int, int], meeting: Path) -> None:
    """Makes this process one of a group on the CPU."""
    number, size = rank
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(size), GLOO_SOCKET_IFNAME='lo')
    torch.distributed.init_process_group('gloo', init_method=f'file://{meeting}', rank=number, world_size=size)


def state(runner: Runner) -> Dict[str, Any]:
    """All that a run has come to: weights, distillers, optimiser, schedules, averages, the searches' own."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    averages = [hook.ema_model.state_dict() for hook in runner.hooks if type(hook).__name__ == 'EMAHook']
    return dict(weights=model.state_dict(), distillation=model.distillation.state_dict(),
                optimizer=runner.optim_wrapper.state_dict(), averages=averages,
                schedules=[scheduler.state_dict() for scheduler in runner.param_schedulers],
                hooks={key: hook.state_dict() for key, hook in stateful_hooks(runner).items()},
                iteration=runner.iter, epoch=runner.epoch)
