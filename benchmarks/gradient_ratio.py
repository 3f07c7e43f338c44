"""What ``loss_scale='auto'`` achieves: the ratio of gradients after calibration, in the first iterations of a real training.

usage: python benchmarks/gradient_ratio.py CONFIG [--iterations 50] [flags of tools/train.py]

Trains a distilled config with every distiller's scale on 'auto' and the ratio logged in every iteration, ends
``--iterations`` after the calibration, and prints the geometric mean of the ratio over these and its range. What is asked
for is the distiller's ``loss_weight``.
"""
import argparse
import math
from contextlib import suppress
from typing import Dict, List

from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.cli.main import add_common_flags
from mmkd_plugin.model.checkpoint import distillation_of
from mmkd_plugin.utils.launch import read_config


class EnoughSeen(Exception):
    """Ends a run, whatever its loop is."""


class Ratios(Hook):
    """Keeps the logged ratio of every distiller in every iteration after its calibration; ends the run after ``wanted``."""

    def __init__(self, wanted: int):
        self.wanted = wanted
        self.by_distiller: Dict[str, List[float]] = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        distillers = distillation_of(runner).distillers
        self._calibrated = [name for name, distiller in distillers.items() if distiller.calibration.finished]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for name in self._calibrated:
            if f'{name}.gradient_ratio' in outputs:
                self.by_distiller.setdefault(name, []).append(float(outputs[f'{name}.gradient_ratio']))
        names = distillation_of(runner).distillers
        if all(len(self.by_distiller.get(name, ())) >= self.wanted for name in names):
            raise EnoughSeen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--iterations', type=int, default=50, help='how many are looked at after the calibration')
    add_common_flags(parser)
    args = parser.parse_args()
    cfg = read_config(args)
    for distiller in cfg.model.distillers.values():
        distiller.update(loss_scale='auto', calibration_iters=None, log_gradients=1)
    runner = Runner.from_cfg(cfg)
    ratios = Ratios(args.iterations)
    runner.register_hook(ratios)
    with suppress(EnoughSeen):
        runner.train()
    for name, values in ratios.by_distiller.items():
        mean = math.exp(math.fsum(map(math.log, values)) / len(values))
        print(f'{args.config}: {name}: asked for {cfg.model.distillers[name].get("loss_weight", 1.0)}, ratio in the '
              f'{len(values)} iterations after calibration: {mean:.3f} (geometric mean; {min(values):.2f} to '
              f'{max(values):.2f})')


if __name__ == '__main__':
    main()
