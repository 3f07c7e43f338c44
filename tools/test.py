"""Tests a checkpoint. A distilled config tests as its student; its teacher is neither built nor loaded."""
import argparse
from pathlib import Path

from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.utils.config import is_file
from mmkd_plugin.utils.launch import add_common_flags, check_file_place, make_work_dir, one_line_errors, read_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='where the predictions are kept: a folder (mmseg) or a .pkl file (mmdet, mmpretrain)')
    parser.add_argument('--show', action='store_true', help='show predictions')
    parser.add_argument('--show-dir', help='folder for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between shown predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_flags(parser)
    return parser.parse_args()


def draw_predictions(cfg, args) -> None:
    """Switches the visualisation hook of the config on."""
    hooks = cfg.get('default_hooks')
    hook = hooks.get('visualization') if isinstance(hooks, dict) else None
    if not isinstance(hook, dict):
        raise SystemExit('error: --show and --show-dir need a visualization hook in default_hooks')
    hook.draw = True
    hook.show, hook.wait_time = args.show, args.wait_time
    if args.show_dir:
        if not isinstance(cfg.get('visualizer'), dict):
            raise SystemExit('error: --show-dir needs a visualizer in the config')
        make_work_dir(args.show_dir, '--show-dir')
        cfg.visualizer.save_dir = args.show_dir


def keep_predictions(cfg, out: str) -> None:
    """Writes predictions in the form the codebase of the config has for it; sees first that they can be written."""
    if cfg.get('default_scope') == 'mmseg':
        if not isinstance(cfg.get('test_evaluator'), dict):
            raise SystemExit('error: --out needs a dict under test_evaluator, whose metric keeps the predictions')
        make_work_dir(out, '--out')
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
        return
    if not cfg.get('test_evaluator'):
        raise SystemExit('error: --out needs a test_evaluator in the config')
    if Path(out).suffix not in ('.pkl', '.pickle'):
        raise SystemExit(f'error: --out is a .pkl file, not {out}')
    check_file_place(Path(out), '--out')
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=out, _scope_='mmengine')]


def main() -> None:
    args = parse_args()
    cfg = read_config(args)
    if not args.checkpoint.startswith(('http://', 'https://')) and not is_file(args.checkpoint):
        raise SystemExit(f'error: checkpoint {args.checkpoint} not found')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.tta:
        if not isinstance(cfg.get('tta_model'), dict) or not cfg.get('tta_pipeline'):
            raise SystemExit('error: --tta needs tta_model and tta_pipeline in the config')
        if not isinstance(cfg.get('test_dataloader'), dict) or not isinstance(cfg.test_dataloader.get('dataset'), dict):
            raise SystemExit('error: --tta needs test_dataloader.dataset in the config')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    if args.out is not None:
        keep_predictions(cfg, args.out)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.test()


if __name__ == '__main__':
    with one_line_errors():
        main()
