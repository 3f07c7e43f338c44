"""A search, and the training that uses what it finds, one after the other: ``mmkd search`` and ``tools/search.py``."""
import argparse
import ast
import copy
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config
from mmengine.registry import HOOKS as MMENGINE_HOOKS

from ..distpro.averaging import average_files
from ..distpro.distiller import DistProDistiller
from ..search.derive import check_search, derive_search
from ..utils.config import find_config, load_config
from ..utils.errors import DistillationError, under
from ..utils.launch import check_environment, check_file_place, check_text, check_types, make_work_dir, override
from ..utils.overrides import parsed_options
from ..utils.work_dirs import work_dir_of

FINISHED = 'finished'
"""A file in the work dir of a stage that has come to its end: its config."""
MOST_CHANGES = 12


@dataclass(frozen=True)
class Experiment:
    """A training with a search, as it is asked for on a command line.

    Args:
        config: a path, or ``package::path``.
        train: the script that trains a config; None: ``python -m mmkd_plugin train``.
        work_dir: where the training works; None: where its config says, or ``work_dirs/<its name>``. The search works in
            the folder ``search`` in it.
        cfg_options: overrides (``key=value``) in the config, and so in the search that is derived from it.
        search_options: overrides in the derived config.
        gpus: how many processes are started on this machine; by torchrun where it is not 1.
        seeds: how many searches are averaged, each with seeds of its own, in the folders ``seed0``, ``seed1``, ... of the
            search; DistPro's only.

    Raises:
        DistillationError: if the config is not found.
    """
    config: str
    train: Optional[Path] = None
    work_dir: Optional[Path] = None
    cfg_options: Sequence[str] = ()
    search_options: Sequence[str] = ()
    gpus: int = 1
    seeds: int = 1

    @property
    def path(self) -> Path:
        """The config file."""
        return find_config(self.config, 'config')

    def training_config(self) -> Config:
        """The config of the training, with its overrides and its work dir."""
        cfg = load_config(self.config, 'config')
        override(cfg, parsed_options('--cfg-options', self.cfg_options), '--cfg-options')
        check_types(cfg._cfg_dict)
        check_text(cfg._cfg_dict)
        check_environment(cfg)
        cfg.work_dir = str(self.work_dir or work_dir_of(cfg))
        return cfg

    def search_config(self) -> Config:
        """The config of the search.

        Raises:
            DistillationError: if the config describes none, or it does not fit.
        """
        derived = derive_search(self.training_config())
        cfg = derived.copy()
        override(cfg, parsed_options('--search-options', self.search_options), '--search-options')
        with under('--search-options'):
            check_search(cfg, derived)
            check_types(cfg._cfg_dict)
            check_text(cfg._cfg_dict)
            check_environment(cfg)
        if self.search_options:
            cfg.search_options = list(self.search_options)  # so that a training that follows knows them
        return cfg

    def dump(self, file: Path) -> None:
        """Writes the config of the search, with a first line that says what it is; makes its folder.

        Raises:
            DistillationError: see :meth:`search_config`; or for a file that cannot be written, is no .py, or is the config
                of the training itself.
        """
        self._dump(self.search_config(), file)

    def _dump(self, cfg: Config, file: Path) -> None:
        if file.suffix != '.py':
            raise DistillationError(path='--dump', given=str(file), accepted='the name of a .py file')
        check_file_place(file, '--dump')
        if file.exists() and file.samefile(self.path):
            raise DistillationError('is the config of the training itself', path='--dump', given=str(file),
                                    accepted='another file')
        cfg.dump(file)
        said = f'# The search of {self.config}, made by `mmkd search`. `mmkd train` runs it, in {cfg.work_dir}.\n'
        file.write_text(said + file.read_text())

    @property
    def result(self) -> Path:
        """The file that the search writes, where the training looks for it. Raises what :meth:`search_config` does."""
        return _result(self.search_config())

    def as_searched(self) -> 'Experiment':
        """The same with the seeds and the ``search_options`` of the search that is there already, finished or begun."""
        folder = self.result.parent
        for file in (folder / FINISHED, folder / self._name):
            before = _assigned(file)
            if before:
                seeds, options = before.get('averaged_seeds', self.seeds), before.get('search_options', ())
                if isinstance(seeds, int) and isinstance(options, (list, tuple)):
                    return replace(self, seeds=seeds, search_options=[*map(str, options)])
        return self

    @property
    def _name(self) -> str:
        """Of the file with the config of the search, in its folder."""
        return f'{self.path.stem}.py'

    def run_search(self) -> None:
        """Runs the search, or the searches that are averaged, or goes on with them, unless they are finished.

        Raises:
            DistillationError: see :meth:`search_config`; or for several searches whose results have no average.
            SystemExit: if it fails, is ended, or another config was finished in its folder.
        """
        cfg = self.search_config()
        if self.seeds == 1:
            self._search(cfg)
            return
        hook = cfg.custom_hooks[0]
        if hook.type != DistProDistiller.search_hook:
            raise DistillationError(f'has no meaning for what {hook.type} finds, which has no average', path='--seeds',
                                    given=self.seeds, accepted="1, or a search of 'mmkd.DistProDistiller'")
        result = _result(cfg)
        whole = copy.deepcopy(cfg)
        whole.averaged_seeds = self.seeds
        if result.is_file() and _is_finished(result.parent, whole):
            return
        files = [self._search(_with_seed(cfg, number)) for number in range(self.seeds)]
        for line in average_files(files, result):
            print(line, flush=True)
        (result.parent / FINISHED).write_text(whole.pretty_text)

    def _search(self, cfg: Config) -> Path:
        """Runs one search, or goes on with it, unless it is finished; returns the file it has written."""
        folder = Path(cfg.work_dir)
        result = _result(cfg)
        if result.is_file() and _is_finished(folder, cfg):
            return result
        file = folder / self._name
        make_work_dir(folder)
        self._dump(cfg, file)
        self._train(file, folder)
        if not result.is_file():
            raise SystemExit(f'error: {file} ended without writing {result}')
        (folder / FINISHED).write_text(cfg.pretty_text)
        return result

    def run_training(self) -> None:
        """Runs the training, or goes on with it, unless it is finished. Raises what :meth:`run_search` does."""
        cfg = self.training_config()
        cfg.pop('search', None)  # nothing to the training
        folder = Path(cfg.work_dir)
        if _is_finished(folder, cfg):
            return
        make_work_dir(folder)
        options = self.options_of_training()
        self._train(self.path, folder, *(['--cfg-options', *options] if options else []))
        (folder / FINISHED).write_text(cfg.pretty_text)

    def options_of_training(self) -> List[str]:
        """The overrides with which the training is called.

        ``mmkd train`` would look for the search itself, and not know :attr:`search_options`: it sees a config without one.
        """
        if self.train is not None:
            return [*self.cfg_options]
        return [*(option for option in self.cfg_options if not option.startswith(('search.', 'search='))), 'search=None']

    def _train(self, config: Path, folder: Path, *more: str) -> None:
        """Trains a config in a process of its own; goes on from the last checkpoint in the folder, if there is one."""
        python = [sys.executable]
        script = [str(self.train)] if self.train else ['-m', __name__.partition('.')[0], 'train']
        script += [str(config), '--work-dir', str(folder), '--resume']
        if self.gpus != 1:
            python += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={self.gpus}']
            script += ['--launcher', 'pytorch']
        print(f'{folder}: begins, or goes on', flush=True)
        code = call([*python, *script, *more])
        if code:
            raise SystemExit(f'error: {config} ended with code {code}. What stands above says why; call this again to go '
                             'on.')


def _result(cfg: Config) -> Path:
    """The file that a search with this config writes."""
    out: str = MMENGINE_HOOKS.build(cfg.custom_hooks[0]).options.out
    return Path(cfg.work_dir) / out


def call(command: Sequence[str]) -> int:
    """Runs a command to its end. Whoever ends this process by SIGTERM or SIGINT (Ctrl-C) ends that one too.

    Left alone it would go on, and share its folder with the next call's. A second signal ends it at once.

    Returns:
        Its exit code, not 0 where it was ended.
    """
    signals: List[int] = []
    started: List[subprocess.Popen[bytes]] = []

    def end(number: int, frame: Any) -> None:
        signals.append(number)
        for process in started:
            process.kill() if len(signals) > 1 else process.terminate()

    # Before it starts: a signal that comes in between would end this process alone.
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with subprocess.Popen(command) as process:
            started.append(process)
            if signals:
                process.terminate()
            code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code or (-signals[0] if signals else 0)


def _assigned(file: Path) -> Dict[str, Any]:
    """What the text of a config assigns, of that what is written out in numbers and text; empty where it is none."""
    try:
        statements = ast.parse(file.read_text(errors='replace')).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: Dict[str, Any] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            with suppress(ValueError):
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
    return found


def _with_seed(cfg: Config, number: int) -> Config:
    """The config of a search with other seeds, of the training and of its hook, in a folder of its own."""
    cfg = copy.deepcopy(cfg)
    randomness = cfg.get('randomness') or {}
    cfg.randomness = dict(randomness, seed=(randomness.get('seed') or 0) + number)
    cfg.custom_hooks[0].seed = cfg.custom_hooks[0].get('seed', 0) + number
    cfg.work_dir = str(Path(cfg.work_dir) / f'seed{number}')
    return cfg


def _is_finished(folder: Path, cfg: Config) -> bool:
    """Whether a config was trained to its end in a folder. Raises ``SystemExit`` if that was another config."""
    marker = folder / FINISHED
    if not marker.is_file():
        return False
    before = marker.read_text(errors='replace')  # what is no text is another config
    difference = unified_diff(before.splitlines(), cfg.pretty_text.splitlines(), n=0, lineterm='')
    changes = [line for line in difference if line[0] != '@'][2:]  # the first two are names of files
    if changes:
        listed = '\n'.join([*changes[:MOST_CHANGES], *(['...'] if len(changes) > MOST_CHANGES else [])])
        raise SystemExit(f'error: another config was finished in {folder}. What has changed since:\n{listed}\n'
                         f'Remove {folder} to run it anew, or choose another --work-dir.')
    print(f'{folder}: finished before', flush=True)
    return True


def search(args: argparse.Namespace, train: Optional[Path] = None) -> None:
    """Runs the search that a config describes, and the training after it where that is asked for.

    Args:
        args: the flags, see :func:`~mmkd_plugin.cli.main.flags_of_search`.
        train: see :class:`Experiment`.

    Raises:
        DistillationError: for a config or flags that do not fit.
        SystemExit: if one of the two fails, is ended, or another config was finished in its folder.
    """
    if args.dump is not None and args.then_train:
        raise SystemExit('error: --dump runs nothing: leave --then-train out')
    if args.dump is not None and args.seeds != 1:
        raise SystemExit('error: --dump writes the config of one search: leave --seeds out')
    experiment = Experiment(args.config, train, args.work_dir, args.cfg_options, args.search_options, args.gpus, args.seeds)
    if args.dump is not None:
        experiment.dump(args.dump)
        print(f'wrote {args.dump}')
        return
    experiment.run_search()
    if args.then_train:
        experiment.run_training()
