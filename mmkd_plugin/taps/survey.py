"""What a model computes of an image, module by module: for finding taps where nobody has said which."""
from typing import Any, Callable, List, NamedTuple, Tuple

import torch
from torch import Tensor, nn

from ..utils.isolation import evaluation_mode, preserved_rng

NEEDS_MORE = (AssertionError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, NotImplementedError)
"""What a head may raise that is run without ground truth or proposals; what came before it has been seen."""


class Seen(NamedTuple):
    """An output of a module.

    Attributes:
        address: where a tap would read it.
        shape: its shape, B = 1 first.
        module: the module.
        calls: how often the module has been called; a tap reads what is called once.
    """
    address: str
    shape: Tuple[int, ...]
    module: nn.Module
    calls: int


def survey(model: nn.Module, run: Callable[[], object]) -> List[Seen]:
    """The outputs of all modules of a model, in the order in which they came. Changes nothing, and draws nothing.

    Args:
        model: the student or the teacher.
        run: runs it once, on one image. What it raises after the first output is taken for what a head lacks.
    """
    found: List[Tuple[str, nn.Module, Any]] = []
    handles = [module.register_forward_hook(lambda module, args, output, name=name: found.append(
        (name, module, _shapes(output)))) for name, module in model.named_modules() if name]
    try:
        with preserved_rng(), evaluation_mode(model), torch.no_grad():
            run()
    except NEEDS_MORE:
        if not found:
            raise
    finally:
        for handle in handles:
            handle.remove()
    calls = [name for name, _, _ in found]
    return [Seen(f'{name}{index}', shape, module, calls.count(name))
            for name, module, shapes in found for index, shape in shapes]


def _shapes(output: Any) -> List[Tuple[str, Tuple[int, ...]]]:
    """The shape of a tensor, or of each in a tuple or list, by the index of a tap."""
    if isinstance(output, Tensor):
        return [('', tuple(output.shape))]
    items = output if isinstance(output, (tuple, list)) else ()
    return [(f'[{number}]', tuple(item.shape)) for number, item in enumerate(items) if isinstance(item, Tensor)]
