"""What is said when a distilled training begins: the checks that cost nothing, as lines of its log."""
import logging

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..model.run_checks import AT_START
from .findings import look, sorted_by_grade
from .setup import Setup


def say_at_start(runner: Runner) -> None:
    """Logs what the cheap checks find in a training that is about to begin; no forward is run for it.

    Errors and warnings are warnings of the log, advice is not. It ends nothing: what makes a run impossible is raised
    elsewhere.

    Args:
        runner: a runner with distillation attached.
    """
    if not is_main_process():
        return
    setup = Setup.of_runner(runner)
    for finding in sorted_by_grade(look(setup, at_start=True)):
        level = logging.INFO if finding.grade == 'advice' else logging.WARNING
        print_log(f'{finding.grade}: {finding}', runner.logger, level=level)
    for distiller in setup.distillation.distillers.values():
        calibration = distiller.strength.calibration
        if calibration is not None and not calibration.finished:
            print_log(f"{distiller.path}: loss_scale='auto' compares gradients {calibration.describe()}, and its scale "
                      'moves while it does; then it is frozen, and logged', runner.logger)


AT_START.append(say_at_start)
