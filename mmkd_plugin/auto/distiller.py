"""``mmkd.AutoDistiller``: a pool of losses for the task at hand, at equal weights or weighed by a process."""
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Sequence

from mmengine.logging import print_log
from torch import Tensor, nn

from ..distiller import Distiller, StandsForSeveral, Surroundings
from ..registry import MODELS
from ..taps.places import Place, find_places
from ..utils.errors import DistillationError, unknown_name
from ..utils.options import Choice, Either, Flag, ListOf, Number, Text, option
from .pools import PATHWAYS, POOLS, levels, task_of

ARTEFACT = 'search/process.json'
SEARCH_HOOK = 'mmkd.ProcessSearchHook'
HANDED_ON = ('loss_weight', 'begin', 'end', 'warmup')
"""Of the options that every distiller has, those that become the process's."""


@MODELS.register_module()
class AutoDistiller(Distiller, StandsForSeveral):
    """Stands for a pool of distillers, and for what weighs them; where they compare what, it finds itself.

    The pool follows from the task: classification: KL with standardised class scores, DIST, MGD on the stages, and
    DistPro's pathways; segmentation: CWD and KL of the class scores, MGD, pathways; detection: PKD on the neck, MGD,
    pathways. Each is calibrated to the task loss first. Stages, class scores and the levels of the neck are found by running
    both networks once.

    By default all of them weigh the same to the end. The file of a search (``process``, or ``search/process.json`` in the
    work dir) is replayed. With ``searched`` the first part of the run is a search, judged by the next batch, and the process
    that it finds is replayed for the rest; with ``online`` all of it is. The hooks that this needs are added to the run.

    Losses: those of the distillers, as ``<name>_<distiller>.loss_*``, and ``<name>.loss_pathways``.

    Raises:
        DistillationError: for options that do not fit; when training starts, for networks in which there is nothing to
            compare.

    In a config::

        auto=dict(type='mmkd.AutoDistiller')
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Distiller.Options):
        """The options of the pool."""
        refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
            ('every', 'scale_by_every', 'fraction', 'loss_scale', 'calibration_iters', 'log_gradients'),
            'A pool says itself when and how strongly each loss acts; loss_weight and total are for all of them.')
        task: str = option(Choice(('auto', *POOLS)), 'auto',
                           "what the networks are for; 'auto': what the student's parts say")
        pool: Optional[List[str]] = option(
            Either(ListOf(Text('a name'), 'names', different=True), (None,)), None, "which of the task's losses, by name: "
            "'kd', 'dist', 'mgd', 'cwd', 'pkd', and 'hcl' for the pathways; None: all that there are")
        mode: str = option(Choice(('train', 'search')), 'train', "'train'; 'search': a run that is a search and nothing "
                           'else, which is what `mmkd search` makes of it')
        process: Optional[str] = option(
            Either(Text('the path of a process file'), (None,)), None, 'a file to replay; None: `search/process.json` in '
            'the work dir of the run, where there is one', dict(mode=('train',)))
        searched: Optional[float] = option(
            Either(Number(above=0, below=1), (None,)), None, 'the part of the run that is a search, where there is no file; '
            'None: no search', dict(mode=('train',), online=(False,)))
        online: bool = option(Flag(), False, 'whether all of the run is a search: the weights move to its end, and nothing '
                              'is replayed', dict(mode=('train',)))
        total: Optional[float] = option(
            Either(Number(above=0), (None,)), None, 'what all losses weigh together while they are equally important: at 1 '
            "they are together about as strong as the task's own loss; None: about their number, so that each of them is")
        transforms: str = option(Text('the name of a transform'), 'conv1', 'of the pathways')

        def check(self, given: Sequence[str]) -> None:
            super().check(given)
            if self.online and self.process is not None:
                raise DistillationError('has no meaning beside online=True', path='process', given=self.process,
                                        accepted='one of the two')

        @property
        def until(self) -> Optional[float]:
            """The part of the run that searches where there is no file, None where no part does."""
            return 1.0 if self.online or self.mode == 'search' else self.searched

        def file(self, work_dir: Optional[Path]) -> Optional[str]:
            """The file that is replayed, None where there is none, or the run is to search from its start to its end.

            Args:
                work_dir: the run's; None where it has none.
            """
            if self.until == 1:
                return None
            if self.process is not None or work_dir is None:
                return self.process
            file = work_dir / ARTEFACT
            return str(file) if file.is_file() else None

    options: Options
    search_hook: ClassVar[str] = SEARCH_HOOK
    search_result: ClassVar[str] = 'process'

    def stands_for(self, surroundings: Surroundings, image: Tensor) -> Dict[str, Dict[str, Any]]:
        if len(surroundings.teachers) > 1:
            raise DistillationError('takes one teacher', path='type', given='mmkd.AutoDistiller',
                                    accepted='teacher=dict(...), not teachers')
        task = task_of(surroundings.student) if self.options.task == 'auto' else self.options.task
        teacher = next(iter(surroundings.teachers.values()))
        assert surroundings.run_student is not None, 'the networks are looked at'
        ours = _places(surroundings.student, image, surroundings.run_student)
        theirs = _places(teacher.model, image, teacher.run)
        members = POOLS[task](ours, theirs)
        pathways = levels(ours, theirs)
        known = [*members, *([PATHWAYS] if pathways else [])]
        wanted = known if self.options.pool is None else self.options.pool
        for name in wanted:
            if name not in known:
                raise unknown_name('pool', name, known, problem=f'is no loss for {task} that these networks have')
        if not wanted:
            raise DistillationError(f'finds nothing to compare in these networks (as {task})', path='type',
                                    given='mmkd.AutoDistiller', accepted='a distiller with taps of its own; or an '
                                    'image_shape of the model that both networks take')
        chosen = {f'{self.name}_{name}': members[name] for name in wanted if name in members}
        print_log(f'{self.path}: a pool for {task}: {", ".join(wanted)}', 'current')
        return {**chosen, self.name: self._process(list(chosen), pathways if PATHWAYS in wanted else [], surroundings)}

    def _process(self, members: List[str], pathways: List[Any], surroundings: Surroundings) -> Dict[str, Any]:
        given: Dict[str, Any] = {key: getattr(self.options, key) for key in HANDED_ON}
        given.update(type='mmkd.DistProDistiller', scales='calibrated')
        given.update(dict(scale_by_pathways=True) if self.options.total is None else dict(total=self.options.total))
        if members:
            given['members'] = members
        if pathways:
            given.update(levels=pathways, transforms=self.options.transforms)
        file = self.options.file(surroundings.work_dir)
        if file is not None:
            return dict(given, mode='process', process=file, scales='auto')
        return dict(given, mode='equal' if self.options.until is None else 'search')

    def hooks(self, distillers: Dict[str, Dict[str, Any]]) -> List[Dict[str, Any]]:
        if distillers[self.name]['mode'] != 'search':
            return []
        return [dict(type=SEARCH_HOOK, validation='next_batch', until=self.options.until)]


def _places(model: nn.Module, image: Tensor, run: Callable[[Tensor], object]) -> List[Place]:
    return find_places(model, image, lambda images, samples: run(images))
