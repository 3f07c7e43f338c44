"""Run by torchrun from test_runtime.py: two ranks whose measurements would not agree."""
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from zoo import classifier, distilled, run, run_cfg  # noqa: E402

import mmkd_plugin  # noqa: E402, F401
from mmkd_plugin.runtime import trial  # noqa: E402

out = Path(sys.argv[1])
trial.MOST_ROUNDS = 1
trial.choose = lambda *_: ('fold_bn', 'channels_last')[get_rank()]
model = distilled(classifier(4), classifier(4), dict(allow_random_weights=True, runtime='auto'),
                  l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2']))
cfg = run_cfg(model, out / f'run{get_rank()}', length=8)
cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
    type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False), experiment_name='distributed')
runner, _ = run(cfg)
distillation = runner.model.module.distillation
torch.save(dict(choices=distillation.teachers.choices, passes_on='forward' in vars(distillation.teacher.model.backbone.bn1)),
           out / f'rank{get_rank()}.pt')
