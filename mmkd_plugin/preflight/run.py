"""A check of a config before it is trained: ``mmkd check``."""
import tempfile
import time
from pathlib import Path
from typing import Any, Mapping, Optional, Union

from mmengine.config import Config

from ..model.run_checks import is_distilled_config
from ..search.derive import derive_search, reads_result
from ..utils.config import load_config
from ..utils.errors import DistillationError, shortened
from ..utils.launch import check_environment, check_load_from, check_text, check_types, override
from ..utils.work_dirs import work_dir_of
from .findings import Finding, finding_of, look
from .measure import RESULTS, ShortRun, short_config, short_run
from .report import Report, tap_rows
from .setup import Setup
from .teacher_score import score_teachers

SEARCH_FIRST, BUILD = 'search-first', 'build'
"""Findings that are of no check in the table."""
SECONDS = 60.0
SCORE_SHARE = 1 / 3
"""Of the time, for the teachers on validation images."""

Reference = Union[str, Path, Config]


def run_check(config: Reference, iters: int = 20, teacher_samples: int = 100, seconds: float = SECONDS,
              overrides: Optional[Mapping[str, Any]] = None, work_dir: Optional[str] = None) -> Report:
    """Looks at a distilled config before it is trained; leaves nothing behind, in the work dir or elsewhere.

    Student and teachers are built, a few iterations are run on real batches in a folder that is gone afterwards, and the
    teachers are asked for validation images. Whatever does not fit is a finding, not an exception. Where the config
    describes a search whose result is not there yet, the search is what is run.

    Args:
        config: a path, ``package::path``, or the config itself.
        iters: how many iterations are run at most; with 0, models are built and nothing is run.
        teacher_samples: on how many validation images each teacher is looked at; with 0, on none.
        seconds: how long that may take; one iteration is always run, and no teacher is asked once they are over.
        overrides: changes to the config by dotted keys, as ``--cfg-options`` has them.
        work_dir: the training's work dir, where results of searches are looked for; None: as the config has it.

    Returns:
        What was found.
    """
    report = Report(_name_of(config))
    try:
        cfg = _read(config, overrides, work_dir)
    except DistillationError as raised:
        report.add_failure(finding_of(raised, BUILD))
        report.left_out['everything else'] = 'the config cannot be read'
        return report
    if not is_distilled_config(cfg.get('model')):
        report.add([Finding('error', 'model.type', 'the config does not distil anything',
                            "Write model=dict(type='mmkd.DistilledModel', ...)", BUILD)])
        return report
    try:
        search = derive_search(cfg) if cfg.get('search') is not None else None
    except DistillationError as raised:
        report.add(look(Setup.of_config(cfg)))
        report.add_failure(finding_of(raised, BUILD))
        report.left_out['models and iterations'] = 'the search does not fit'
        return report
    if search is not None and _comes_first(cfg):
        report.looked_at = 'search'
        report.add([Finding('advice', 'search', f'has not been run yet (there is no result in {cfg.work_dir}/search): it is '
                            'what was looked at', 'mmkd search CONFIG --then-train runs both', SEARCH_FIRST)])
        report.add(look(Setup.of_config(cfg)))
        _look_at_the_run(report, search, cfg, iters, teacher_samples, seconds)
        return report
    if search is not None:
        report.add(look(Setup.of_config(search, of_training=True)))
    _look_at_the_run(report, cfg, cfg, iters, teacher_samples, seconds)
    return report


def check_config(config: Reference) -> Report:
    """The part of a check that looks at the config alone: nothing is built, and no data is needed.

    Args:
        config: a path, ``package::path``, or the config itself; of one that distils nothing, nothing is found.

    Returns:
        What was found.
    """
    report = Report(_name_of(config))
    try:
        cfg = _read(config, None, None)
        if is_distilled_config(cfg.get('model')):
            report.add(look(Setup.of_config(cfg)))
            if cfg.get('search') is not None:
                report.add(look(Setup.of_config(derive_search(cfg), of_training=True)))
    except DistillationError as raised:
        report.add_failure(finding_of(raised, BUILD))
    return report


def _name_of(config: Reference) -> str:
    return str(config.filename or 'config') if isinstance(config, Config) else str(config)


def _read(config: Reference, overrides: Optional[Mapping[str, Any]], work_dir: Optional[str]) -> Config:
    cfg = load_config(config if isinstance(config, Config) else str(config), 'config')
    override(cfg, overrides, '--cfg-options')
    check_types(cfg._cfg_dict)
    check_text(cfg._cfg_dict)
    check_environment(cfg)
    check_load_from(cfg)
    cfg.work_dir = work_dir or str(work_dir_of(cfg))
    return cfg


def _comes_first(cfg: Config) -> bool:
    """Whether the search that a config describes has still to be run."""
    return reads_result(cfg) and not any((Path(cfg.work_dir) / result).is_file() for result in RESULTS)


def _look_at_the_run(report: Report, cfg: Config, training: Config, iters: int, teacher_samples: int,
                     seconds: float) -> None:
    """Builds and runs a config, and adds what is found.

    Args:
        report: where it is added.
        cfg: the config that is run, of the training or of its search.
        training: the training's, which has the validation images.
        iters, teacher_samples, seconds: see :func:`run_check`.
    """
    run: Optional[ShortRun] = None
    failure: Optional[Exception] = None
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = short_run(short_config(cfg, Path(folder)))
            run.go(iters, max(0.0, begun + seconds * (1 - SCORE_SHARE) - time.perf_counter()))
            left = max(0.0, begun + seconds - time.perf_counter())
            run.measured.scores += score_teachers(run.runner, training, teacher_samples, left, run.measured.teachers_seconds)
        except Exception as raised:  # noqa: BLE001 (data sets and networks of others may raise anything)
            failure = raised
    setup = Setup.of_config(cfg, of_training=cfg is not training)
    if run is not None:
        length, setup.per_epoch = run.length
        setup.iterations = length or setup.iterations
        setup.model = run.model
        run.measured.calibrated = {name: part.options.loss_weight for name, part in setup.distillers.items()
                                   if part.options.loss_scale == 'auto'}
        setup.measured = report.measured = run.measured if run.measured.size else None
        report.taps = tap_rows(setup)
        missing = run.measured.wanted - run.measured.iterations
        if missing and run.measured.iterations and failure is None:
            report.left_out[f'{missing} of {run.measured.wanted} iterations'] = (
                f'no time was left for them: --seconds {seconds:g}')
    report.iterations = setup.iterations
    report.add(look(setup))
    if failure is not None:
        report.left_out['what comes after'] = 'something failed, see the errors'
        report.add_failure(_as_finding(failure, run))


def _as_finding(failure: Exception, run: Optional[ShortRun]) -> Finding:
    if isinstance(failure, DistillationError):
        return finding_of(failure, BUILD)
    key, doing = (run.doing_of, run.doing) if run is not None else ('model', 'models are built')
    return Finding('error', key, f'fails while {doing} ({shortened(f"{type(failure).__name__}: {failure}")})',
                   'The training would fail alike', BUILD)
