"""Testing a checkpoint: ``mmkd test`` and ``tools/test.py``."""
import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..utils.config import is_file
from ..utils.launch import check_file_place, make_work_dir, read_config
from .train import short_on_terminals


def test(args: argparse.Namespace) -> None:
    """Tests a checkpoint. A distilled config tests as its student; its teacher is neither built nor loaded.

    Args:
        args: the flags, see :func:`~mmkd_plugin.cli.main.flags_of_test`.

    Raises:
        DistillationError: for a config or flags that do not fit.
        SystemExit: for flags that the config has no place for, or a checkpoint that is not there.
    """
    cfg = read_config(args)
    if not args.checkpoint.startswith(('http://', 'https://')) and not is_file(args.checkpoint):
        raise SystemExit(f'error: checkpoint {args.checkpoint} not found')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        _draw_predictions(cfg, args)
    if args.tta:
        _augment(cfg)
    if args.out is not None:
        _keep_predictions(cfg, args.out)
    with short_on_terminals():
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.test()


def _augment(cfg: Config) -> None:
    """Test-time augmentation, as the config describes it."""
    if not isinstance(cfg.get('tta_model'), dict) or not cfg.get('tta_pipeline'):
        raise SystemExit('error: --tta needs tta_model and tta_pipeline in the config')
    if not isinstance(cfg.get('test_dataloader'), dict) or not isinstance(cfg.test_dataloader.get('dataset'), dict):
        raise SystemExit('error: --tta needs test_dataloader.dataset in the config')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def _draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Switches the visualisation hook of the config on."""
    hooks = cfg.get('default_hooks')
    hook = hooks.get('visualization') if isinstance(hooks, dict) else None
    if not isinstance(hook, dict):
        raise SystemExit('error: --show and --show-dir need a visualization hook in default_hooks')
    hook.update(draw=True, show=args.show, wait_time=args.wait_time)
    if args.show_dir:
        if not isinstance(cfg.get('visualizer'), dict):
            raise SystemExit('error: --show-dir needs a visualizer in the config')
        make_work_dir(args.show_dir, '--show-dir')
        cfg.visualizer.save_dir = args.show_dir


def _keep_predictions(cfg: Config, out: str) -> None:
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
