"""The teacher: built from its own config, complete weights, always in eval mode, never part of the student."""
import hashlib
from importlib import import_module
from typing import Dict, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from .config import load_config
from .errors import DistillationError, check_known_keys, unknown_name
from .files import load_weights
from .isolation import evaluation_mode, preserved_rng
from .recording import FeatureSum
from .taps import FeatureTaps

TEACHER_KEYS = ('config', 'checkpoint', 'overrides', 'allow_random_weights')


class Teacher:
    """Holds the teacher outside the student's module tree.

    It is not an ``nn.Module`` on purpose: it does not appear in ``parameters()``, ``state_dict()``, DDP or an EMA copy
    (copying returns the same object), and ``student.train()`` cannot reach it.

    Args:
        model: the built teacher. Put into eval mode as a whole; its SyncBN becomes BN, its parameters are frozen.
        identity: what is recorded about it in checkpoints (config text and hash of the weights).
        own_input: whether its preprocessor says how it wants its images; if not, it sees the student's as they are.
    """

    def __init__(self, model: nn.Module, identity: Optional[Dict[str, str]] = None, own_input: bool = True):
        self.model = revert_sync_batchnorm(model)
        self.model.eval()  # on its own: train() of some mm modules returns nothing
        self.model.requires_grad_(False)
        self.identity = identity or {}
        self.taps: Optional[FeatureTaps] = None
        self._own_input = own_input
        self._renormalise = None
        self._device = None

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def tap(self, addresses: Sequence[str], student: nn.Module, image: Tensor) -> FeatureTaps:
        """Finds the taps by a dry run on ``image`` (1, C, H, W) and sets up the input for this student."""
        if self._own_input:
            self._renormalise = renormalisation(getattr(student, 'data_preprocessor', None),
                                                getattr(self.model, 'data_preprocessor', None))
        self.taps = FeatureTaps(self.model, addresses, 'teacher')
        self._move_to(image.device)
        dry_run(self.model, self.taps, image)
        return self.taps

    def features(self, inputs: Tensor, data_samples=None, addresses: Optional[Sequence[str]] = None,
                 sums: Sequence[FeatureSum] = ()) -> Dict[str, Tensor]:
        """Features of the student's batch by address, sums of them by name, without gradient; stops at the deepest tap.

        Args:
            inputs: (B, C, H, W), the batch as the student's preprocessor made it.
            data_samples: the batch's data samples, for teachers that want them (DETR).
            addresses: which taps; all by default.
            sums: weighted sums to make while the teacher runs.
        """
        self._move_to(inputs.device)
        if self._renormalise is not None:
            inputs = self._renormalise(inputs)
        with torch.no_grad(), self.taps.record(addresses, stop_when_complete=True, sums=sums) as recording:
            self.model(inputs, data_samples, mode='tensor')
        return recording.features(inputs)

    def _move_to(self, device: torch.device) -> None:
        if self._device != device:
            self.model.to(device)
            self._device = device


class _Renormalise:
    """x * scale + shift after an optional swap of the channel order."""

    def __init__(self, scale: Tensor, shift: Tensor, flip: bool):
        self.scale, self.shift, self.flip = scale, shift, flip

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.scale.device != inputs.device:
            self.scale, self.shift = self.scale.to(inputs.device), self.shift.to(inputs.device)
        if self.flip:
            inputs = inputs.flip(1)
        return torch.addcmul(self.shift, inputs, self.scale)


def renormalisation(student: Optional[nn.Module], teacher: Optional[nn.Module]) -> Optional[_Renormalise]:
    """What turns the student's normalised image into the teacher's, or None where both are the same.

    The student's batch is the only one: geometry and augmentation happen once, in its preprocessor, and the teacher sees
    the result. ``x_t = (x_s * std_s + mean_s - mean_t) / std_t``, with the channel order swapped where the two differ.
    """
    (mean_s, std_s, swaps_s), (mean_t, std_t, swaps_t) = _normalisation(student), _normalisation(teacher)
    flip = swaps_s != swaps_t
    if flip:
        mean_s, std_s = mean_s.flip(0), std_s.flip(0)
    scale = (std_s / std_t).view(1, -1, 1, 1)
    shift = ((mean_s - mean_t) / std_t).view(1, -1, 1, 1)
    if not flip and bool((scale == 1).all()) and bool((shift == 0).all()):
        return None
    return _Renormalise(scale, shift, flip)


def _normalisation(preprocessor: Optional[nn.Module]) -> Tuple[Tensor, Tensor, bool]:
    # mmseg and mmpretrain name the swap differently from mmengine and mmdet.
    swaps = any(getattr(preprocessor, name, False) for name in ('_channel_conversion', 'channel_conversion', 'to_rgb'))
    if getattr(preprocessor, '_enable_normalize', False):
        return preprocessor.mean.flatten().cpu(), preprocessor.std.flatten().cpu(), swaps
    return torch.zeros(1), torch.ones(1), swaps


def dry_run(model: nn.Module, taps: FeatureTaps, image: Tensor) -> None:
    """Runs ``model`` in eval mode to settle ``taps``; leaves modes, buffers and random numbers as they were."""
    from mmengine.structures import BaseDataElement
    size = tuple(image.shape[2:])
    sample = BaseDataElement(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
                                           scale_factor=(1.0, 1.0)))
    with preserved_rng(), evaluation_mode(model), torch.no_grad():
        try:
            taps.settle(lambda: model(image, [sample], mode='tensor'), image)
        except (AssertionError, RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
            if isinstance(error, DistillationError):
                raise
            raise DistillationError(f'model.image_shape: the {taps.role} ({type(model).__name__}) does not run on a dry-run '
                                    f'image of {tuple(image.shape[1:])}: {error}. Set image_shape=(channels, height, width) '
                                    'to a size it takes.') from error


def build_teacher(cfg: dict) -> Teacher:
    """Builds a teacher from the ``teacher`` block of a distillation config.

    Args:
        cfg: ``config`` (a path, ``package::path``, or a dict: a whole config or the model's), ``checkpoint`` (a path or
            an http(s) address), ``overrides`` (dotted keys of the teacher's config), ``allow_random_weights``.

    Raises:
        DistillationError: for an unknown key, a config that is not found, no checkpoint, or a checkpoint that does not
            cover every weight.
    """
    check_known_keys('model.teacher', cfg, TEACHER_KEYS)
    if cfg.get('config') is None:
        raise DistillationError('model.teacher.config is missing. Accepted: a path, "package::path", or a dict.')
    config = load_config(cfg['config'], 'model.teacher.config')
    if 'model' not in config:
        if 'type' not in config:
            raise DistillationError(f'model.teacher.config: {str(cfg["config"])[:200]!r} has neither `model` (a whole '
                                    "config) nor `type` (a model's config)")
        config = Config(dict(model=config._cfg_dict))
    if cfg.get('overrides'):
        _apply_overrides(config, cfg['overrides'])
    checkpoint = cfg.get('checkpoint')
    if checkpoint is None and not cfg.get('allow_random_weights', False):
        raise DistillationError('model.teacher.checkpoint is missing: a teacher with random weights teaches noise. '
                                'Accepted: a path or an http(s) address; for tests, allow_random_weights=True.')
    model = _build_model(config)
    if checkpoint is not None:
        load_teacher_weights(model, checkpoint)
        print_log(f'teacher: {type(model).__name__} with the weights of {checkpoint}', 'current')
    own_input = config.model.get('data_preprocessor') is not None
    if not own_input:
        print_log("teacher: its config names no data_preprocessor; it sees the student's input as it is", 'current')
    return Teacher(model, dict(config=_config_text(config), sha256=hash_weights(model)), own_input)


def _apply_overrides(config: Config, overrides: dict) -> None:
    key = 'model.teacher.overrides'
    if not isinstance(overrides, dict):
        raise DistillationError(f'{key}: {overrides!r}. Accepted: a dict of dotted keys, e.g. '
                                "{'model.head.num_classes': 10}.")
    for name in overrides:
        node = config
        for part in name.split('.')[:-1]:
            if part not in node:
                raise unknown_name(f'{key}: {part!r} in {name!r}', part, node, "Keys start at the config: 'model....'.")
            node = node[part]
        if '.' not in name and name not in config:
            raise unknown_name(key, name, config)
    config.merge_from_dict(dict(overrides))


def _build_model(config: Config) -> nn.Module:
    model_cfg = config.model
    if model_cfg.get('type') in ('mmkd.DistilledModel', 'DistilledModel'):
        model_cfg = model_cfg.student  # a teacher that was itself distilled
    if config.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', config.data_preprocessor)
    scope = config.get('default_scope') or model_cfg.get('_scope_')
    if scope is None:
        return _build(model_cfg)
    try:
        import_module(scope)
    except ImportError as error:
        raise DistillationError(f'model.teacher.config: its default_scope is {scope!r}, which cannot be imported '
                                f'({error}). Install it with: pip install {scope}') from None
    with DefaultScope.overwrite_default_scope(scope):
        return _build(model_cfg)


def _build(model_cfg: dict) -> nn.Module:
    try:
        return MODELS.build(model_cfg)
    except (TypeError, KeyError) as error:
        raise DistillationError(f'model.teacher.config (with its overrides) cannot be built: {error}') from error


def load_teacher_weights(model: nn.Module, checkpoint: str) -> None:
    """Loads a checkpoint that must cover every weight of ``model``. Raises :class:`DistillationError` otherwise."""
    key = 'model.teacher.checkpoint'
    state = load_weights(checkpoint, key)
    wanted = model.state_dict()
    try:
        # Through the modules' own hooks: they may rename keys and resize position embeddings.
        result = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        raise _not_covered(key, checkpoint, model, 'Of another shape', wrong, len(wanted)) from None
    missing = [name for name in result.missing_keys if not name.endswith('num_batches_tracked')]
    if missing:
        raise _not_covered(key, checkpoint, model, 'Missing', missing, len(wanted))
    if result.unexpected_keys:
        print_log(f'{key}: {len(result.unexpected_keys)} weights of the file are not in the teacher and are not used '
                  f'({", ".join(result.unexpected_keys[:3])}, ...)', 'current')


def _not_covered(key, checkpoint, model, label: str, names: list, wanted: int) -> DistillationError:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return DistillationError(f'{key}: {checkpoint!r} covers {wanted - len(names)} of the {wanted} weights of the teacher '
                             f'({type(model).__name__}); all are needed. {label}: {", ".join(names[:5])}{more}. Is it the '
                             'checkpoint of model.teacher.config?')


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _config_text(config: Config) -> str:
    return Config(dict(model=config.model.to_dict())).pretty_text


