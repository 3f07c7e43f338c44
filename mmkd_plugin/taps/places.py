"""The places of a model that are worth tapping: found by one forward, with what a tap there would see."""
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..utils.errors import DistillationError
from ..utils.isolation import evaluation_mode, preserved_rng
from .activations import ActivationSearch
from .dry_run import Forward
from .shapes import tokens_to_map
from .tap import Tap

STAGE, NECK, LOGITS, BEFORE_LOGITS, OUTPUT = 'stage', 'neck', 'logits', 'before logits', 'output'
KINDS = (STAGE, NECK, LOGITS, BEFORE_LOGITS, OUTPUT)
BACKBONES, NECKS = ('backbone', 'img_backbone'), ('neck', 'img_neck')


@dataclass(frozen=True)
class Place:
    """A place of a model that is worth tapping.

    Attributes:
        address: the tap.
        kind: ``'stage'``, a stage or block of the backbone; ``'neck'``, a level of the neck; ``'logits'``, class scores;
            ``'before logits'``, the feature that the classifier reads; ``'output'``, an output of the backbone that is no
            stage's.
        channels: how wide the feature is.
        size: (H, W) of the feature; None for a vector (B, C).
        stride: how many pixels of the image a cell is high, rounded; None for a vector.
        gradient: whether a loss there would reach a trainable parameter.
        preact: whether the address with ``@preact`` is one, too.
        type: the class of the module.
    """
    address: str
    kind: str
    channels: int
    size: Optional[Tuple[int, int]]
    stride: Optional[int]
    gradient: bool
    preact: bool
    type: str


@dataclass
class _Seen:
    """What one module has returned in the forward."""
    calls: int
    order: int
    output: Any
    input: Any = None


def find_places(model: nn.Module, image: Tensor, forward: Optional[Forward] = None) -> List[Place]:
    """The places of a model that are worth tapping, in the order of the forward.

    They are the stages of the backbone (the parts that it calls one after the other; of a model without a ``backbone``, its
    own parts), the levels of the neck, and the last layer with class scores. What runs several times in a forward, as the
    shared heads of detectors do, is left out: it cannot be tapped. Modes, buffers and random numbers of the model are
    left as they were.

    Args:
        model: the student or the teacher.
        image: (1, C, H, W).
        forward: runs the model on images and data samples; by default in ``mode='tensor'``.

    Raises:
        DistillationError: if the model does not run on the image far enough to reach its backbone.
    """
    run = partial(forward or partial(model, mode='tensor'), image, [_sample(image)])
    with preserved_rng(), evaluation_mode(model), torch.enable_grad():
        seen = _watch(model, run, image)
        found = _places(model, seen, image)
        closing = _with_activation(model, [place for place in found if place.kind == STAGE], run)
    return [Place(**{**vars(place), 'preact': place.address in closing}) for place in found]


def _sample(image: Tensor) -> BaseDataElement:
    size = tuple(image.shape[2:])
    return BaseDataElement(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
                                         scale_factor=(1.0, 1.0)))


def _watch(model: nn.Module, run: Any, image: Tensor) -> Dict[str, _Seen]:
    """What every module returns, by its name."""
    seen: Dict[str, _Seen] = {}

    def after(name: str, module: nn.Module, args: Any, output: Any) -> None:
        entry = seen.setdefault(name, _Seen(0, len(seen), output, args[0] if args else None))
        entry.calls += 1

    handles = [module.register_forward_hook(partial(after, name)) for name, module in model.named_modules() if name]
    try:
        run()
    except Exception as error:  # what a head wants that a dry run has not; what was reached before it counts
        if not any(name in seen for name in (*BACKBONES, *(name for name, _ in model.named_children()))):
            raise DistillationError(f'the model ({type(model).__name__}) does not run on an image of '
                                    f'{tuple(image.shape[1:])}: {error}', path='model.image_shape',
                                    accepted='(channels, height, width) of a size that it takes') from error
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _places(model: nn.Module, seen: Dict[str, _Seen], image: Tensor) -> List[Place]:
    modules = dict(model.named_modules())
    backbone = next((name for name in BACKBONES if name in modules), '')
    neck = next((name for name in NECKS if name in modules), '')
    heads = [name for name, _ in model.named_children() if backbone and name not in (backbone, neck)]
    make = partial(_of_output, modules, seen, image)
    stages = [place for name in _stages(modules, seen, backbone) for place in make(name, STAGE)]
    found = [(seen[_name_of(place.address)].order, place) for place in stages]
    known = [tensor for place in stages for tensor in _tensors(seen[_name_of(place.address)].output)]
    if backbone and backbone in seen:
        outputs = zip(make(backbone, OUTPUT), _tensors(seen[backbone].output))
        found += [(seen[backbone].order, place) for place, tensor in outputs
                  if not any(tensor is other for other in known)]
    if neck and neck in seen:
        found += [(seen[neck].order, place) for place in make(neck, NECK)]
    for name in _scoring(model, modules, seen, heads if backbone else ['']):
        found += [(seen[name].order, place) for place in (*_input_of(modules, seen, image, name), *make(name, LOGITS))]
    return [place for _, place in sorted(found, key=lambda entry: entry[0])]


def _name_of(address: str) -> str:
    return address.split('[')[0].split('@')[0]


def _tensors(output: Any) -> List[Tensor]:
    return [item for item in (output if isinstance(output, (list, tuple)) else [output]) if isinstance(item, Tensor)]


def _stages(modules: Dict[str, nn.Module], seen: Dict[str, _Seen], path: str) -> List[str]:
    """Names of the parts that a backbone calls one after the other; what is packed once more is unpacked."""
    found = [name for child, _ in modules[path].named_children() for name in _parts(modules, seen, _join(path, child))]
    found = [name for name in found if _name_of(name) not in (*BACKBONES, *NECKS)]
    if len(found) == 1 and _children_that_ran(modules, seen, found[0]):
        return _stages(modules, seen, found[0])
    return sorted(found, key=lambda name: seen[name].order)


def _parts(modules: Dict[str, nn.Module], seen: Dict[str, _Seen], name: str) -> List[str]:
    """The module itself, where it ran once and is no single layer; of a list the modules in it."""
    module = modules[name]
    if not list(module.children()):
        return []
    if name in seen:
        return [name] if seen[name].calls == 1 else []
    return [part for child, _ in module.named_children() for part in _parts(modules, seen, _join(name, child))]


def _children_that_ran(modules: Dict[str, nn.Module], seen: Dict[str, _Seen], name: str) -> List[str]:
    return [child for child, _ in modules[name].named_children() if _parts(modules, seen, _join(name, child))]


def _join(path: str, child: str) -> str:
    return f'{path}.{child}' if path else child


def _of_output(modules: Dict[str, nn.Module], seen: Dict[str, _Seen], image: Tensor, name: str, kind: str) -> List[Place]:
    output, found = seen[name].output, []
    if seen[name].calls > 1:
        return []
    items = list(output) if isinstance(output, (list, tuple)) else [output]
    alone = not isinstance(output, (list, tuple)) or len(_tensors(output)) == 1
    for number, item in enumerate(items):
        place = _place(name if alone else f'{name}[{number}]', kind, item, image, type(modules[name]).__name__)
        found += [place] if place else []
    return found


def _input_of(modules: Dict[str, nn.Module], seen: Dict[str, _Seen], image: Tensor, name: str) -> List[Place]:
    place = _place(f'{name}@in', BEFORE_LOGITS, seen[name].input, image, type(modules[name]).__name__)
    return [place] if place else []


def _place(address: str, kind: str, feature: Any, image: Tensor, type_: str) -> Optional[Place]:
    """A place with this feature; None where it is none of the image."""
    if not isinstance(feature, Tensor) or feature.dim() not in (2, 3, 4) or len(feature) != len(image):
        return None
    gradient = feature.requires_grad
    if feature.dim() == 3:
        try:
            feature = tokens_to_map(feature, (image.shape[2], image.shape[3]))
        except DistillationError:
            return None
    size = (feature.shape[2], feature.shape[3]) if feature.dim() == 4 else None
    stride = round(image.shape[2] / size[0]) if size else None
    return Place(address, kind, feature.shape[1], size, stride, gradient, False, type_)


def _scoring(model: nn.Module, modules: Dict[str, nn.Module], seen: Dict[str, _Seen], heads: Sequence[str]) -> List[str]:
    """Name of the last layer that has as many outputs as there are classes; nothing where there are several, or none."""
    found = []
    for head in heads:
        classes = {getattr(modules[head], key, None) for key in ('num_classes', 'out_channels', 'cls_out_channels')}
        for name, module in modules.items():
            inside = name == head or name.startswith(f'{head}.') or not head
            width = getattr(module, 'out_channels', getattr(module, 'out_features', None))
            layer = isinstance(module, (nn.Conv2d, nn.Linear))
            if inside and layer and name in seen and (width in classes or not head):
                found.append(name)
    last = max(found, key=lambda name: seen[name].order, default=None)
    if last is None or seen[last].calls > 1:
        return []
    # Of a detector each level may have its own.
    siblings = [name for name in found if name.rpartition('.')[0] == last.rpartition('.')[0]]
    return [last] if len(siblings) == 1 or '' in heads else []


def _with_activation(model: nn.Module, places: Sequence[Place], run: Any) -> List[str]:
    """Addresses of the places at which ``@preact`` is one, too, of a feature of the same width."""
    searches: Dict[str, Tuple[ActivationSearch, Place]] = {}
    handles: List[Any] = []
    for place in places:
        if '[' not in place.address:
            search = ActivationSearch(Tap(model, f'{place.address}@preact', 'student'))
            try:
                handles += search.hook()
            except DistillationError:
                continue
            searches[place.address] = search, place
    try:
        with suppress(Exception):  # of a head that wants more than an image; it came before, too
            run()
    finally:
        for handle in handles:
            handle.remove()
    return [address for address, found in searches.items() if _settles(*found)]


def _settles(search: ActivationSearch, place: Place) -> bool:
    try:
        found = search.result()
    except DistillationError:
        return False
    # In inverted residuals the last activation is inside, where the block is several times as wide.
    return found is not None and found.shape[-1 if found.channels_last else 1] == place.channels
