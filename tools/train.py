"""Trains any OpenMMLab config, distilled or not. The flags are those of the upstream tools/train.py."""
import argparse

from mmengine.device import is_cuda_available, is_npu_available
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.utils.files import existing_file
from mmkd_plugin.utils.launch import add_common_flags, check_load_from, one_line_errors, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from the latest checkpoint in the work dir, or '
                        'from the one given')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    add_common_flags(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    if args.amp:
        if not isinstance(cfg.get('optim_wrapper'), dict):
            raise SystemExit(f'error: --amp needs a dict under optim_wrapper, not {cfg.get("optim_wrapper")!r}')
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise SystemExit(f'error: --amp works with optim_wrapper.type OptimWrapper, not {kind}')
        if not is_cuda_available() and not is_npu_available():
            raise SystemExit('error: --amp needs a GPU: mmengine has mixed precision there only')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        scaling = cfg.get('auto_scale_lr')
        if not isinstance(scaling, dict) or 'base_batch_size' not in scaling:
            raise SystemExit('error: --auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        scaling.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume is not None:
        if args.resume != 'auto' and 'runner_type' not in cfg:  # other runners may go on from folders
            existing_file(args.resume, '--resume')
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    check_load_from(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    with one_line_errors():
        main()
