"""What to know before training: checks of a config, its models, a few iterations, each a function in one table."""
from . import config_checks, model_checks, run_checks, search_checks, start
from .findings import CHECKS, Check, Finding
from .report import Report, TapRow
from .run import check_config, run_check

__all__ = ['CHECKS', 'Check', 'Finding', 'Report', 'TapRow', 'check_config', 'config_checks', 'model_checks', 'run_check',
           'run_checks', 'search_checks', 'start']
