"""Run by torchrun from test_distributed.py: every loss of one codebase at once, two iterations."""
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from distpro_runs import spread  # noqa: E402
from loss_tasks import FEATURES, LOGITS, distiller  # noqa: E402
from zoo import STUDENTS, distilled, run, run_cfg  # noqa: E402

import mmkd_plugin  # noqa: E402, F401

out, scope = Path(sys.argv[1]), sys.argv[2]
distillers = {name: distiller(name, tap) for task, name, tap in FEATURES + LOGITS if task == scope}
runner, losses = run(spread(run_cfg(distilled(STUDENTS[scope](), **distillers), out / scope), 2))
memories = {name: value for name, value in runner.model.module.distillation.named_buffers() if 'memory_' in name}
torch.save(dict(losses=losses, memories=memories,
                weights={name: value.detach() for name, value in runner.model.module.named_parameters()}),
           out / f'{scope}_{get_rank()}.pt')
