"""The teacher: built from its own config, complete weights, always in eval mode, never part of the student."""
import inspect
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from ..runtime import RUNTIME, Call, Runtime, Wanted
from ..runtime.trial import RUN_ERRORS
from ..taps import FeatureSum, FeatureTaps, dry_run, dry_sample
from ..utils.config import load_config, package_of
from ..utils.errors import DistillationError, building, shortened, under, unknown_name
from ..utils.launch import override
from ..utils.options import Block, Either, Flag, Kind, Number, Options, Text, Typed, option
from .default_checkpoint import default_checkpoint
from .teacher_input import Normalisation, Renormalise, normalisation_of, renormalisation, to_multiple
from .teacher_weights import hash_weights, load_teacher_weights


class Teacher:
    """Holds the teacher outside the student's module tree.

    It is not an ``nn.Module`` on purpose: it does not appear in ``parameters()``, ``state_dict()``, DDP or an EMA copy
    (copying returns the same object), and ``student.train()`` cannot reach it.

    Args:
        model: the built teacher. Put into eval mode as a whole; its SyncBN becomes BN, its parameters are frozen.
        identity: what is recorded about it in checkpoints (config text, hash of the weights, and where they come from).
        normalisation: how it wants its images; None: it sees the student's as they are.
        path: the key under which it stands in the config.
        size_multiple: what its images' height and width have to be multiples of.
        runtime: how it is run; see :class:`~mmkd_plugin.runtime.Runtime`.

    Attributes:
        taps: all taps of the teacher.
        runtime: what runs it.
    """
    normalisation_key = 'config.model.data_preprocessor'
    """Below ``path``, where the normalisation stands."""

    def __init__(self, model: nn.Module, identity: Optional[Dict[str, str]] = None,
                 normalisation: Optional[Normalisation] = None, path: str = 'model.teacher', size_multiple: int = 1,
                 runtime: Wanted = 'plain'):
        self.model = revert_sync_batchnorm(model)
        self.model.eval()  # on its own: train() of some mm modules returns nothing
        self.model.requires_grad_(False)
        self.identity = identity or {}
        self.taps = FeatureTaps(self.model, 'teacher')
        self.runtime = Runtime(self.model, self.taps, self.forward, runtime, f'{path}.runtime')
        self.path, self.size_multiple = path, size_multiple
        self.normalisation = normalisation
        self._renormalise: Optional[Renormalise] = None
        weight = next(self.model.parameters(), None)
        self._dtype = None if weight is None else weight.dtype

    def __copy__(self) -> 'Teacher':
        return self

    def __deepcopy__(self, memo: Any) -> 'Teacher':
        return self

    def settle(self, student: nn.Module, image: Tensor) -> None:
        """Settles the taps by a dry run on ``image`` (1, C, H, W) and sets up the input for this student."""
        if self.normalisation is not None:
            with under(f'{self.path}.{self.normalisation_key}'.rstrip('.')):
                self.normalisation.check()
            self._renormalise = renormalisation(normalisation_of(getattr(student, 'data_preprocessor', None)),
                                                self.normalisation)
            if self._renormalise is not None and self._renormalise.channels not in (1, image.shape[1]):
                raise DistillationError(f'is for images with {self._renormalise.channels} channels',
                                        path=f'{self.path}.{self.normalisation_key}'.rstrip('.'),
                                        accepted=f'one number, or {image.shape[1]}: image_shape has as many channels')
        image = to_multiple(image, self.size_multiple)
        self._move_to(image)
        dry_run(self.model, self.taps, image, self.forward)

    def try_out(self, image: Tensor) -> None:
        """Runs the model on an image (1, C, H, W) of the student's, for a look at what it computes."""
        image = to_multiple(image, self.size_multiple)
        self._move_to(image)
        self.forward(image, [dry_sample(image)])

    def features(self, inputs: Tensor, data_samples: Any = None, addresses: Optional[Sequence[str]] = None,
                 sums: Sequence[FeatureSum] = ()) -> Dict[str, Tensor]:
        """Features of the student's batch by address, sums of them by name, without gradient; stops at the deepest tap.

        Args:
            inputs: (B, C, H, W), the batch as the student's preprocessor made it.
            data_samples: the batch's data samples, for teachers that want them (DETR).
            addresses: which taps; all by default.
            sums: weighted sums to make while the teacher runs.
        """
        with self._naming_the_batch(inputs):
            return self.runtime.features(self._call(inputs, data_samples, addresses, sums))

    def start(self, inputs: Tensor, data_samples: Any = None, addresses: Optional[Sequence[str]] = None,
              sums: Sequence[FeatureSum] = ()) -> Callable[[], Dict[str, Tensor]]:
        """Before the student's forward: begins what can run beside it. Returns what gives the :meth:`features`."""
        with self._naming_the_batch(inputs):
            features = self.runtime.start(lambda: self._call(inputs, data_samples, addresses, sums), inputs.device)

        def finish() -> Dict[str, Tensor]:
            with self._naming_the_batch(inputs):
                return features()

        return finish

    def shown(self, inputs: Tensor) -> Tensor:
        """The student's batch (B, C, H, W) as the teacher sees it, on the teacher's device."""
        self._move_to(inputs)
        if self._renormalise is not None:
            inputs = self._renormalise(inputs)
        return to_multiple(inputs, self.size_multiple)

    @contextmanager
    def _naming_the_batch(self, images: Tensor) -> Iterator[None]:
        """A network that has taken the image of the dry run need not take a batch: that is one error with its size."""
        try:
            yield
        except RUN_ERRORS as error:
            if isinstance(error, (DistillationError, torch.cuda.OutOfMemoryError)):
                raise
            raise DistillationError(
                f'the teacher ({type(self.model).__name__}) does not run on a batch of {tuple(images.shape)}: '
                f'{shortened(f"{type(error).__name__}: {error}")}', path=self.path,
                accepted='images of a size that it takes', hint='The dry run had another: set model.image_shape to the size '
                'of the batches, which tells it before training; size_multiple enlarges the images.') from error

    def _call(self, inputs: Tensor, data_samples: Any, addresses: Optional[Sequence[str]],
              sums: Sequence[FeatureSum]) -> Call:
        return Call(self.shown(inputs), data_samples, addresses, sums)

    def forward(self, inputs: Tensor, data_samples: Any = None) -> None:
        """Runs the model on images as it has them, (B, C, H, W)."""
        self.model(inputs, data_samples, mode='tensor')

    def _move_to(self, inputs: Tensor) -> None:
        """Puts the model where its input is; where somebody has made it a precision that does not fit that, into its own."""
        device, weight = inputs.device, next(self.model.parameters(), None)
        if weight is None:
            self.model.to(device)
            return
        own = weight.dtype in (self._dtype, inputs.dtype, self.runtime.dtype)
        if weight.device == device and own:
            return
        if weight.is_meta and device.type != 'meta':
            raise DistillationError("has been moved to the device 'meta', where it has lost its weights",
                                    path=self.path)
        if not own:
            print_log(f'{self.path}: somebody has made its weights {weight.dtype}; they are {self._dtype} again, with what '
                      'is left of them', 'current', level=logging.WARNING)
        self.model.to(device, weight.dtype if own else self._dtype)


@dataclass(frozen=True)
class TeacherConfig(Kind):
    """Where a teacher's architecture stands: a file's name, or the config itself."""
    accepted = 'a path, "package::path", or a dict (a whole config or a model\'s)'

    def fits(self, value: Any) -> bool:
        return isinstance(value, (str, dict, Config)) and bool(value)


@dataclass(frozen=True, kw_only=True)
class EveryTeacherOptions(Options):
    """What every teacher takes."""
    allow_random_weights: bool = option(Flag(), False, 'True to go without a checkpoint; for tests')
    size_multiple: int = option(
        Number(above=0, most=1024, whole=True), 1, 'its images are resized (bilinearly) up to the next height and width '
        'that are multiples of so many pixels: the patch size of a vision transformer, 14 for DINOv2')
    runtime: Wanted = option(RUNTIME, 'plain', "how it is run: `'plain'`: as it is; `'auto'`: in the variant that is found "
                             'to be the fastest when training begins; see [runtime.md](runtime.md)')


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(EveryTeacherOptions):
    """The ``teacher`` block of a distilled model."""
    renamed = dict(type="The model's config stands under config: teacher=dict(config=dict(type=...), checkpoint=...).",
                   model="The whole config stands under config: teacher=dict(config=dict(model=...), checkpoint=...).")
    config: Union[str, Dict[str, Any]] = option(
        TeacherConfig(), doc='a path (relative to the working directory), `package::path` (`mmseg::`, `mmdet::`, '
        '`mmpretrain::`, `mmkd_plugin::`), or a dict: a whole config or a model\'s')
    checkpoint: Optional[str] = option(
        Either(Text('a path or an http(s) address'), (None,)), None, "must cover every weight; None: that of the config's "
        "name: the published one of its package, or the last of the config's own training in `work_dirs/<name>`, "
        'or the file beside the config with its name')
    overrides: Optional[Dict[str, Any]] = option(
        Either(Block("a dict of dotted keys, e.g. {'model.head.num_classes': 10}"), (None,)), None,
        'changes to its whole config')


def build_teacher(cfg: Mapping[str, Any], path: str = 'model.teacher') -> Teacher:
    """Builds a teacher from its block of a distillation config.

    Args:
        cfg: see :class:`TeacherOptions`.
        path: the key under which the block stands.

    Raises:
        DistillationError: for an unknown key, a config that is not found, no checkpoint, or a checkpoint that does not
            cover every weight.
    """
    with under(path):
        options = TeacherOptions.read(cfg)
        config = load_config(options.config, 'config')
        if 'model' not in config:
            if 'type' not in config:
                raise DistillationError("has neither `model` (a whole config) nor `type` (a model's config)", path='config',
                                        given=str(options.config)[:200], accepted='a config that has one of them')
            config = Config(dict(model=config._cfg_dict))
        _check_model(config)
        checkpoint = options.checkpoint
        if checkpoint is None and not options.allow_random_weights:
            checkpoint = default_checkpoint(options.config, config)
        if options.overrides:
            _apply_overrides(config, options.overrides)
        model = _build_model(config, package_of(options.config))
        if checkpoint is not None:
            load_teacher_weights(model, checkpoint, f'{path}.config')
    if checkpoint is not None:
        print_log(f'{path}: {type(model).__name__} with the weights of {checkpoint}', 'current')
    normalisation = None
    if config.model.get('data_preprocessor') is not None:
        normalisation = normalisation_of(getattr(model, 'data_preprocessor', None))
    else:
        print_log(f"{path}: its config names no data_preprocessor; it sees the student's input as it is", 'current')
    identity = dict(config=_config_text(config), sha256=hash_weights(model), checkpoint=str(checkpoint))
    return Teacher(model, identity, normalisation, path, options.size_multiple, options.runtime)


def _check_model(config: Config) -> None:
    with under('config.model'):
        Typed("a dict with a type: a model's config").read(config.model)


def _apply_overrides(config: Config, overrides: Dict[str, Any]) -> None:
    for name in overrides:
        node: Any = config._cfg_dict
        for part in name.split('.')[:-1]:
            known = list(map(str, node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()))
            if part not in known:
                raise unknown_name('overrides', part, known, "Keys start at the config: 'model....'.",
                                   f'is no key of the config (in {name!r})')
            node = node[part] if isinstance(node, dict) else node[int(part)]
        if '.' not in name and name not in config:
            raise unknown_name('overrides', name, config, problem='is no key of the config')
    override(config, overrides, 'overrides')
    _check_model(config)


def _build_model(config: Config, package: Optional[str]) -> nn.Module:
    model_cfg = config.model
    if model_cfg.get('type') in ('mmkd.DistilledModel', 'DistilledModel'):
        with under('config.model.student'):  # a teacher that was itself distilled
            model_cfg = Typed().read(model_cfg.get('student'))
    if config.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', config.data_preprocessor)
    # Configs of backbones alone (DINOv2 of mmpretrain) say neither.
    scope = config.get('default_scope') or model_cfg.get('_scope_') or package
    if scope is None:
        return _build(model_cfg)
    try:
        import_module(scope)
    except (ImportError, TypeError, ValueError, AttributeError) as error:  # it may be anything but the name of a module
        raise DistillationError(f'has the default_scope {scope!r}, which cannot be imported ({error})', path='config',
                                hint=f'Install it with: pip install {scope}') from None
    with DefaultScope.overwrite_default_scope(scope):
        return _build(model_cfg)


def _build(model_cfg: Dict[str, Any]) -> nn.Module:
    with building('config', 'Is it one for the installed packages? What overrides change is part of it.'):
        model = MODELS.build(model_cfg)
    if not isinstance(model, nn.Module) or 'mode' not in inspect.signature(model.forward).parameters:
        raise DistillationError(f'builds a {type(model).__name__}, which is no model', path='config.model.type',
                                given=model_cfg.get('type'), accepted='the type of a whole model: a detector, a '
                                'segmentor, a classifier')
    return model


def _config_text(config: Config) -> str:
    text: str = Config(dict(model=config.model.to_dict())).pretty_text
    return text
