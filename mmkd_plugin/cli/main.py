"""The command ``mmkd``: its sub-commands, their flags, their help.

A command imports what it needs when it runs: ``--help`` waits for nothing. For that reason the console script loads this
file alone (``mmkd_command.py``), and nothing here is imported from the package before a command runs.
"""
import argparse
import re
import sys
import warnings
from contextlib import AbstractContextManager, redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, List, NoReturn, Optional, Sequence, Tuple

import click

FLAGS_OF_ITS_OWN = dict(ignore_unknown_options=True, allow_interspersed_args=False, help_option_names=[])
"""Of a command that has the flags of the upstream tools: they are read by argparse, as upstream reads them."""
ERRORS_FOUND = 2
"""What ``mmkd check`` ends with, whatever is wrong: 1 are warnings there."""
IN_OUR_WORDS = {"^Invalid value for '?([^']+?)'?: ": r'\1: ', "^Missing (?:option|argument) '([^']+)'.": r'\1: is missing.',
                "^No such (?:option|command):? '?([^' ]+?)'?(?: |[.] ?|$)": r'\1: is not known. ', '[.] $': '.'}
"""By what click says, what all other messages of this package are like."""
UPSTREAM = click.argument('arguments', nargs=-1, type=click.UNPROCESSED)


class Commands(click.Group):
    """Commands whose command line, where it is wrong, ends in the one line of any other mistake."""

    def main(self, args: Optional[Sequence[str]] = None, prog_name: Optional[str] = None,
             complete_var: Optional[str] = None, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs a command; called for the process itself it ends in ``SystemExit``."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as wrong:
            if isinstance(wrong, getattr(click.exceptions, 'NoArgsIsHelpError', ())):
                wrong.show()
                raise SystemExit(wrong.exit_code) from None
            context = getattr(wrong, 'ctx', None)
            end(f'{said(wrong)} `{context.command_path if context else "mmkd"} --help` has the flags.',
                ERRORS_FOUND if context is not None and context.info_name == check.name else 1)
        except click.Abort:
            end('interrupted.')
        raise SystemExit(code if isinstance(code, int) else 0)


def said(wrong: click.ClickException) -> str:
    """What is wrong with a command line: the flag first, as in all messages."""
    text = ' '.join(wrong.format_message().split())
    for pattern, words in IN_OUR_WORDS.items():
        text = re.sub(pattern, words, text)
    return text if text[-1] in '.?!' else f'{text}.'


def end(message: str, code: int = 1) -> NoReturn:
    """Ends the process with one line."""
    print(f'error: {message}', file=sys.stderr)
    raise SystemExit(code)


class Flags(argparse.ArgumentParser):
    """The flags of the upstream tools; what is wrong with them is one line, too."""

    def error(self, message: str) -> NoReturn:
        """Ends the process."""
        end(f'{message.removeprefix("argument ")}. `{self.prog} --help` has the flags.')


@click.group(cls=Commands, context_settings=dict(help_option_names=['-h', '--help'], max_content_width=110))
@click.version_option(package_name='mmkd-plugin', message='mmkd_plugin %(version)s')
def mmkd() -> None:
    """Knowledge distillation for OpenMMLab configs. `mmkd COMMAND --help` has the flags of a command."""


def main() -> None:
    """Runs the command line of this process."""
    mmkd(prog_name='mmkd')


def running(code: int = 1) -> AbstractContextManager[Any]:
    """Imports the package; inside, what a user got wrong ends the process with that code and one line."""
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')  # mmengine imports it, whoever calls
    from mmkd_plugin.utils.launch import one_line_errors
    return one_line_errors(code)


class WithOverrides(click.Command):
    """A command whose ``--cfg-options`` takes several values, as upstream has it."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        """Reads the command line."""
        given: List[str] = []
        takes = is_first = False
        for argument in args:
            if argument.startswith('-'):
                takes = is_first = argument == '--cfg-options'
            elif is_first:
                is_first = False
            elif takes:
                given.append('--cfg-options')
            given.append(argument)
        return super().parse_args(ctx, given)


@mmkd.command(context_settings=FLAGS_OF_ITS_OWN, add_help_option=False)
@UPSTREAM
def train(arguments: Tuple[str, ...]) -> None:
    """Train a config, after its search where its method needs one."""
    args = flags_of_train('mmkd train').parse_args(arguments)
    with running():
        from mmkd_plugin.cli.train import train
        train(args, search_first=True)


@mmkd.command(context_settings=FLAGS_OF_ITS_OWN, add_help_option=False)
@UPSTREAM
def test(arguments: Tuple[str, ...]) -> None:
    """Test a checkpoint, without its teacher."""
    args = flags_of_test('mmkd test').parse_args(arguments)
    with running():
        from mmkd_plugin.cli.test import test
        test(args)


@mmkd.command(context_settings=FLAGS_OF_ITS_OWN, add_help_option=False)
@UPSTREAM
def search(arguments: Tuple[str, ...]) -> None:
    """Run the search that a config describes (DistPro, DFA)."""
    args = flags_of_search('mmkd search').parse_args(arguments)
    with running():
        from mmkd_plugin.cli.search import search
        search(args)


@mmkd.command()
@click.argument('file', type=click.Path(path_type=Path))
@click.option('--out', type=click.Path(path_type=Path), help='Folder for the pictures, by default that of the file.')
@click.option('--title', default='', help='Text above the panels of a process.')
def plot(file: Path, out: Optional[Path], title: str) -> None:
    """Draw what a search has found, a process.json or an aggregation.json."""
    with running():
        from mmkd_plugin.report.plot import draw
        from mmkd_plugin.utils.launch import make_work_dir
        if out is not None:
            make_work_dir(out, '--out')
        for path in draw(file, out, title):
            print(path)


CONFIG = click.argument('config')
TEACHER = click.option('--teacher', metavar='CONFIG', help="The teacher's config, a path or package::path.")
CHECKPOINT = click.option('--checkpoint', metavar='FILE', help="The teacher's weights; by default the published ones of its "
                          'package, or the latest in its work dir.')
METHOD = click.option('--method', default='mgd', show_default=True, metavar='NAME[,NAME]',
                      help='mgd, distpro, dfa, kd, cwd, pkd, dist, reviewkd, l2, auto; several with commas.')
FORCE = click.option('--force', is_flag=True, help='Replace a file that is there.')


@mmkd.command()
@CONFIG
@TEACHER
@click.option('--image-size', nargs=2, type=click.IntRange(1, 8192), default=(128, 128), show_default=True,
              metavar='H W', help='Of the image that runs through the models.')
def taps(config: str, teacher: Optional[str], image_size: Tuple[int, int]) -> None:
    """Show every place worth tapping, and which belong together."""
    with running():
        from mmkd_plugin.cli.taps import taps
        taps(config, teacher, (3, *image_size))


@mmkd.command()
@CONFIG
@click.option('--teacher', required=True, metavar='CONFIG', help="The teacher's config, a path or package::path.")
@CHECKPOINT
@METHOD
@click.option('-o', '--out', type=click.Path(path_type=Path), help='File to write, by default '
              'work_dirs/METHOD_TEACHER_CONFIG.py.')
@FORCE
def init(config: str, teacher: str, checkpoint: Optional[str], method: str, out: Optional[Path], force: bool) -> None:
    """Write a distilled config, and say what was decided and why."""
    with running():
        from mmkd_plugin.cli.init import Request, init
        from mmkd_plugin.cli.terminal import print_decisions
        request = Request(config, teacher, checkpoint, method.split(','), out, force)
        decisions = init(request)
        print(f'{request.file}: written. What was decided:')
        print_decisions(decisions)


@mmkd.command(cls=WithOverrides)
@CONFIG
@click.option('--iters', type=click.IntRange(0), default=20, show_default=True, help='Iterations to run, at most.')
@click.option('--teacher-samples', type=click.IntRange(0), default=100, show_default=True,
              help='Validation images for each teacher, at most.')
@click.option('--seconds', type=click.FloatRange(0), default=60, show_default=True,
              help='For all of it; one iteration is always run.')
@click.option('--json', 'as_json', is_flag=True, help='The report as JSON.')
@click.option('-o', '--out', type=click.Path(path_type=Path), help='A file for the report as JSON, beside what is printed.')
@click.option('--work-dir', help='Of the training, where results of searches are looked for.')
@click.option('--cfg-options', multiple=True, metavar='KEY=VALUE', help='Overrides, e.g. train_cfg.max_iters=100.')
def check(config: str, iters: int, teacher_samples: int, seconds: float, as_json: bool, out: Optional[Path],
          work_dir: Optional[str], cfg_options: Tuple[str, ...]) -> None:
    """Look for what will go wrong, before training: models, a few iterations, the teacher on validation images.

    Ends with code 2 where there are errors, 1 with warnings, 0 otherwise.
    """
    with running(ERRORS_FOUND):
        from mmkd_plugin.cli.subject import quiet
        from mmkd_plugin.preflight import run_check
        from mmkd_plugin.utils.files import write_whole
        from mmkd_plugin.utils.overrides import parsed_options
        with redirect_stdout(sys.stderr), quiet():  # data sets print what they like
            overrides = parsed_options('--cfg-options', cfg_options)
            report = run_check(config, iters, teacher_samples, seconds, overrides, work_dir)
        print(report.json() if as_json else report.text())
        if out is not None:
            write_whole(out, report.json())
        raise SystemExit(report.exit_code)


@mmkd.command(cls=WithOverrides)
@CONFIG
@click.option('--teacher', required=True, metavar='CONFIG', help="The teacher's config, a path or package::path.")
@CHECKPOINT
@METHOD
@click.option('-o', '--out', type=click.Path(path_type=Path), help='The config to write, by default '
              'work_dirs/METHOD_TEACHER_CONFIG.py; one that is there is used.')
@FORCE
@click.option('--work-dir', type=click.Path(path_type=Path), help='Of the training, by default work_dirs/<config name>.')
@click.option('--cfg-options', multiple=True, metavar='KEY=VALUE', help='Overrides, e.g. train_cfg.max_iters=100.')
@click.option('--gpus', type=click.IntRange(1), default=1, show_default=True, help='Processes on this machine.')
@click.option('--check/--no-check', default=True, help='Whether errors that a short `mmkd check` finds (6 iterations, 64 '
              'validation images) end it before the training.')
def distill(config: str, teacher: str, checkpoint: Optional[str], method: str, out: Optional[Path], force: bool,
            work_dir: Optional[Path], cfg_options: Tuple[str, ...], gpus: int, check: bool) -> None:
    """Write a distilled config, check it, train it, test it: all in one."""
    with running():
        from mmkd_plugin.cli.distill import distill
        from mmkd_plugin.cli.init import Request
        distill(Request(config, teacher, checkpoint, method.split(','), out, force), work_dir, cfg_options, gpus, check)


@mmkd.command()
@click.argument('work_dir', type=click.Path(path_type=Path))
@click.option('--checkpoint', metavar='FILE', help='Which one; by default the best one, or the latest.')
@click.option('-o', '--out', type=click.Path(path_type=Path), help='A folder, by default WORK_DIR/export.')
def export(work_dir: Path, checkpoint: Optional[str], out: Optional[Path]) -> None:
    """Write the student alone: a plain config and clean weights."""
    with running():
        from mmkd_plugin.cli.export import export
        done = export(work_dir, checkpoint, out)
        print(f'{done.weights}: the weights of {done.source}\n{done.config}: the config of the student alone')
        if done.needs_package:
            print('It has types of this package (a network, a data set): mmkd_plugin has to be installed where it is used.')


@mmkd.command()
@click.argument('work_dirs', metavar='WORK_DIR...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), metavar='FILE',
              help='The page, by default report.html in the work dir; of several, beside them.')
@click.option('--alone', multiple=True, metavar='WORK_DIR|NUMBER', help='The student trained alone; once for each seed.')
@click.option('--teacher', multiple=True, metavar='WORK_DIR|NUMBER', help="The teacher's training, or its metric; by "
              'default the run that its checkpoint lies in.')
@click.option('--metric', metavar='NAME', help='The main metric, as the log calls it.')
@click.option('--pictures', type=click.IntRange(0, 64), default=4, show_default=True, metavar='N',
              help='Validation images to show, with what the networks make of them.')
def report(work_dirs: Tuple[Path, ...], out: Optional[Path], alone: Tuple[str, ...], teacher: Tuple[str, ...],
           metric: Optional[str], pictures: int) -> None:
    """Write a page about a run, or about several side by side: results, curves, pictures, what to try next."""
    with running():
        from mmkd_plugin.cli.report import report
        with redirect_stdout(sys.stderr):  # data sets print what they like
            file = report(work_dirs, out, alone, teacher, metric, pictures)
        print(file)


@mmkd.command()
def env() -> None:
    """Show what is installed, and what is missing for which task."""
    spec: Any = spec_from_file_location('mmkd_env', Path(__file__).with_name('env.py'))  # the package may not be importable
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.env()


def flags_of_train(program: Optional[str] = None) -> argparse.ArgumentParser:
    """The flags of a training, those of the upstream ``tools/train.py``."""
    parser = Flags(program, description='Trains any OpenMMLab config, distilled or not. The flags are those of the upstream '
                   'tools/train.py.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--resume', nargs='?', const='auto', help='go on from the latest checkpoint in the work dir, or '
                        'from the one given')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    add_common_flags(parser)
    return parser


def flags_of_test(program: Optional[str] = None) -> argparse.ArgumentParser:
    """The flags of a test, those of the upstream ``tools/test.py``."""
    parser = Flags(program, description='Tests a checkpoint. A distilled config tests as its student; its teacher is '
                   'neither built nor loaded.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='where the predictions are kept: a folder (mmseg) or a .pkl file (mmdet, mmpretrain)')
    parser.add_argument('--show', action='store_true', help='show predictions')
    parser.add_argument('--show-dir', help='folder for painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between shown predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_common_flags(parser)
    return parser


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that train and test have in common, as upstream names them."""
    parser.add_argument('--work-dir', help='folder for logs and models; by default work_dirs/<config name>')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='overrides, e.g. train_cfg.max_iters=100')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def flags_of_search(program: Optional[str] = None) -> argparse.ArgumentParser:
    """The flags of a search."""
    parser = Flags(program, formatter_class=argparse.RawDescriptionHelpFormatter, description=SEARCH)
    parser.add_argument('config', help='config of the training; it describes its search under `search`')
    parser.add_argument('--then-train', action='store_true', help='go on with the training')
    parser.add_argument('--dump', type=Path, metavar='FILE', help="write the search's config to a file, for `mmkd train` "
                        '(or the upstream tools/train.py), and run nothing')
    parser.add_argument('--work-dir', type=Path, help='folder of the training; by default work_dirs/<config name>')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='overrides in the config, for '
                        'both, e.g. search.config.train_cfg.max_epochs=4')
    parser.add_argument('--search-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help="overrides in the search's derived config")
    parser.add_argument('--gpus', type=positive, default=1, help='processes on this machine, by torchrun where it is not 1')
    parser.add_argument('--seeds', type=positive, default=1, help='how many searches, each with seeds of its own, are '
                        'averaged into one result')
    return parser


SEARCH = """Runs the search that a config describes under `search`, and, with --then-train, the training that uses what it
finds.

The search works in W/search (W is the work dir) and writes its result there, where the training in W looks for it.
Call it again after an interruption: what is finished is not run again, what was begun goes on from its last checkpoint.
With --seeds N (DistPro) N searches that differ in their seeds alone work in W/search/seed0, seed1, ..., and what they
find is averaged."""


def positive(text: str) -> int:
    """A whole number > 0 from a command line. Raises ``ValueError`` for anything else."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
