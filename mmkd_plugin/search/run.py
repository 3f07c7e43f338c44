"""What every search stands on while a run goes on: one object that a search's hook holds."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Type, TypeVar

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..distiller import Distiller
from ..model import distillation_of
from ..utils.errors import DistillationError
from ..utils.files import LONGEST_FILE_NAME
from ..utils.options import SEED, Block, Either, Kind, Options, option
from ..utils.records import Entry, Fields, Listing, Named, Plain, Real, Words
from .course import Course
from .provenance import provenance
from .stream import BatchStream
from .validation import validation_loader

Kind_ = TypeVar('Kind_', bound=Distiller)


@dataclass(frozen=True)
class FileName(Kind):
    """The name of a result's file, without a folder; no other file of a run ends as it does, but maybe its config."""
    accepted = 'the name of a file, without a folder, that ends in .json'

    def fits(self, value: Any) -> bool:
        return (isinstance(value, str) and value not in ('', '.', '..') and not set(value) & set('/\\\0')
                and value.isprintable() and len(value.encode(errors='surrogatepass')) <= LONGEST_FILE_NAME
                and value.endswith('.json') and value != '.json')


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """What the hook of every search takes."""
    dataloader: Optional[Dict[str, Any]] = option(
        Either(Block("a loader's config"), (None,)), None, 'config of the loader with the validation images, which training '
        'must not see. By default the other part of the `mmkd.SplitDataset` in `train_dataloader`, otherwise loaded alike')
    out: str = option(FileName(), 'result.json', 'name of the file with the result, in the work dir')
    seed: int = option(SEED, 0, 'of the order of the validation images, of what their transforms draw, and of dropout in '
                       'the validation pass')


class SearchRun:
    """The frame of a search: its distiller, validation batches, resuming, course, log, and the file it writes.

    The hook of a search makes one, calls :meth:`begin`, :meth:`resume` and :meth:`open` before training and :meth:`close`
    after it, and hands its state on with :meth:`state` and :meth:`load`. What is searched, and how, is the search's own.

    Args:
        key: the hook's name, for messages.
        options: the hook's options.

    Attributes:
        course: what the search notes on its way.
        meta: where the result comes from; see :func:`~mmkd_plugin.search.provenance.provenance`.
    """

    def __init__(self, key: str, options: SearchOptions):
        self.key, self.options = key, options
        self.course = Course()
        self.meta: Dict[str, Any] = {}
        self._runner: Optional[Runner] = None
        self._name = ''
        self._settings: Dict[str, Any] = {}
        self._saved: Optional[Mapping[str, Any]] = None
        self._stream: Optional[BatchStream] = None

    @property
    def runner(self) -> Runner:
        """The runner of the training at hand."""
        assert self._runner is not None, 'begin() comes first'
        return self._runner

    def begin(self, runner: Runner, kind: Type[Kind_]) -> Kind_:
        """Training starts.

        Args:
            runner: the runner of the training.
            kind: the class of the distiller that is searched.

        Returns:
            The distiller of that class in ``mode='search'``.

        Raises:
            DistillationError: unless there is just one, acting in every iteration and on whole batches, and one optimiser.
        """
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise DistillationError('the run has several optimisers (optim_wrapper)', path=self.key, accepted='one')
        if self.options.out == Path(runner.cfg.filename or '').name:
            raise DistillationError("is the name of the run's config, which is written into the work dir",
                                    path=f'{self.key}.out', given=self.options.out, accepted='another name')
        self._runner, self.meta = runner, provenance(runner)
        self._name, distiller = _searching(runner, kind, self.key)
        return distiller

    def resume(self, settings: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
        """The search's own state in the checkpoint that is resumed, None in a run that begins.

        Args:
            settings: what must be the same as when the search began; with other settings its result would belong to neither.

        Raises:
            DistillationError: for the settings that differ; prints both sides.
        """
        self._settings = dict(settings)
        if self._saved is None:
            return None
        saved = self._saved['settings']
        # What an older version of this package has not kept is not asked for.
        other = [key for key, value in self._settings.items() if key in saved and saved[key] != value]
        if other:
            there, here = ({key: side.get(key) for key in other} for side in (saved, self._settings))
            raise DistillationError(f'the search had other settings. Checkpoint: {there}. Config: {here}', path='resume')
        self.meta['date'] = self._saved['date']
        self.course.load(self._saved['course'])
        search: Mapping[str, Any] = self._saved['search']
        return search

    def open(self, start: int) -> None:
        """Opens the endless stream of validation batches.

        Args:
            start: how many batches have been used before.

        Raises:
            DistillationError: if there is no validation data that training does not see.
        """
        key = f'{self.key}.dataloader'
        cfg = validation_loader(self.options.dataloader, self.runner.cfg, key)
        self._stream = BatchStream(cfg, self.options.seed, key, start=start)

    def next_batch(self) -> Any:
        """The next validation batch, as the loader gives it; a function of its number."""
        assert self._stream is not None, 'open() comes first'
        return next(self._stream)

    def log(self, values: Mapping[str, float]) -> None:
        """Adds values to the log of the run, by ``<distiller>.<name>``."""
        for name, value in values.items():
            self.runner.message_hub.update_scalar(f'train/{self._name}.{name}', value)

    def state(self, search: Mapping[str, Any]) -> Dict[str, Any]:
        """For the checkpoint.

        Args:
            search: the search's own state.
        """
        return dict(search=dict(search), settings=self._settings, date=self.meta['date'], course=self.course.state())

    @staticmethod
    def state_entry(search: Entry) -> Entry:
        """What :meth:`load` accepts.

        Args:
            search: what the search's own state has to be.
        """
        return Fields(dict(search=search, settings=Named(Plain()), date=Words(),
                           course=Named(Listing(Listing(Real())))))

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes what :meth:`state` returned; comes before :meth:`begin` where a run is resumed."""
        self._saved = state

    def close(self, finished: bool, write: Callable[[Path], None]) -> None:
        """Training has ended: lets the loader's workers go and, where the search is finished, writes the result (rank 0).

        Args:
            finished: whether the search is finished.
            write: writes the result to a path.
        """
        self._stream = None
        if not finished:
            print_log(f'search: ended after {self.runner.iter} of {self.runner.max_iters} iterations; resume it to get '
                      f'{self.options.out}', logger=self.runner.logger)
        elif is_main_process():
            path = Path(self.runner.work_dir) / self.options.out
            write(path)
            print_log(f'search: wrote {path}', logger=self.runner.logger)


def _searching(runner: Runner, kind: Type[Kind_], key: str) -> Tuple[str, Kind_]:
    distillers = distillation_of(runner).distillers
    found = {name: distiller for name, distiller in distillers.items() if isinstance(distiller, kind)}
    searching = {name: distiller for name, distiller in found.items() if getattr(distiller.options, 'mode', '') == 'search'}
    if len(searching) != 1:
        modes = ', '.join(f'{name} has mode={getattr(distiller.options, "mode", None)!r}'
                          for name, distiller in found.items())
        raise DistillationError(f"finds {len(searching)} distillers of type 'mmkd.{kind.__name__}' with mode='search' in "
                                'the model', path=key, accepted='one', hint=f'({modes}.)' if modes else '')
    name, distiller = next(iter(searching.items()))
    for key in ('every', 'fraction'):
        if getattr(distiller.options, key) != 1:
            raise DistillationError('is not for a search, whose steps look at whole training steps', accepted='1',
                                    path=f'{distiller.path}.{key}', given=getattr(distiller.options, key))
    return name, distiller
