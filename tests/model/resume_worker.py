"""Run by torchrun from test_distributed.py: runs on two ranks that are interrupted and resumed."""
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank

sys.path.insert(0, str(Path(__file__).parents[1]))
torch.set_num_threads(1)
torch.distributed.init_process_group('gloo')  # before the Runner, whose launcher would look for a GPU

from resume_runs import Dropping, differences, epochs_cfg, interrupted, iterations_cfg  # noqa: E402
from zoo import classifier, distilled, run  # noqa: E402

import mmkd_plugin  # noqa: E402, F401
from mmkd_plugin.utils.errors import DistillationError  # noqa: E402


def on_both_ranks(cfg):
    cfg.update(launcher='pytorch', model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False))
    cfg.experiment_name = 'distributed'
    return cfg


def accumulating(folder, **options):
    # Within the first four iterations: one acts in the first and the third, one in the first, one not at all.
    l2 = dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer2'], fraction=.5)
    model = distilled(classifier(4), classifier(4), l2=dict(l2, every=2), rare=dict(l2, every=4), late=dict(l2, begin=4))
    cfg = on_both_ranks(iterations_cfg(folder, length=8, model=model, **options))
    cfg.optim_wrapper.accumulative_counts = 4
    return cfg


def drawing(folder, **options):
    return on_both_ranks(epochs_cfg(folder, 2, 8, workers=1, **options))


def recording(runner):
    """What differs between ranks has to be looked at without drawing what would part their weights."""
    class Recorder(Dropping):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            torch.rand(1 + get_rank())

    runner.register_hook(Recorder())


def refusal_of_uneven_epochs(folder):
    cfg = on_both_ranks(epochs_cfg(folder, 1, 5))
    cfg.train_dataloader.update(batch_size=1, sampler=dict(type='DefaultSampler', round_up=False, _scope_='mmengine'))
    try:
        run(cfg)
    except DistillationError as error:
        return str(error)
    return ''


out, found = Path(sys.argv[1]), {}
for name, make, place in (('epochs', drawing, dict(epoch=1)), ('iterations', accumulating, dict(iteration=3))):
    whole, resumed, losses, later = interrupted(make, out / name, before=recording, **place)
    found[name] = dict(losses=losses == later, differences=differences(whole, resumed))
    statistics = whole.model.module.backbone.norm1.running_mean.clone()
    found[name]['statistics'] = statistics
found['uneven'] = refusal_of_uneven_epochs(out / 'uneven')
torch.save(found, out / f'rank{get_rank()}.pt')
