"""The teacher's weights: all of them, from a checkpoint that is read without executing anything."""
import hashlib
from typing import Any, Container, Dict, List, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..utils.errors import DistillationError
from ..utils.files import load_weights

KEY = 'checkpoint'
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NEVER_WEIGHTS = (torch.bool, torch.int8, torch.uint8, torch.complex64, torch.complex128)


def load_teacher_weights(model: nn.Module, checkpoint: str, of: str = 'model.teacher.config') -> None:
    """Loads a checkpoint that must cover every weight of ``model``, with finite numbers of a floating type.

    Buffers that count or point are whole numbers. More than half of the matrices and kernels being all zero is refused too.

    Args:
        model: the teacher.
        checkpoint: a path, or an http(s) address.
        of: the key under which the architecture stands, for messages.

    Raises:
        DistillationError: otherwise; nothing of the model is to be used then.
    """
    state = load_weights(checkpoint, KEY)
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    infinite = {name for name, value in wanted.items() if not is_finite(value)}  # a mask of -inf is meant to be one
    kinds = {name: value.dtype for name, value in wanted.items()}
    try:
        # Through the modules' own hooks: they may rename keys and resize position embeddings.
        result = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        missing = _missing_beside(model, state, wrong)
        raise _not_covered(checkpoint, model, {'Of another shape': wrong, 'Missing': missing}, len(wanted), of) from None
    except Exception as error:  # a hook of a module that looks at weights before their shapes have been compared
        raise DistillationError(f'cannot be loaded into the teacher ({type(error).__name__}: {str(error)[:200]})', path=KEY,
                                given=str(checkpoint), hint=f'Is it the checkpoint of {of}?') from None
    missing = _that_count(result.missing_keys)
    if missing:
        raise _not_covered(checkpoint, model, {'Missing': missing}, len(wanted), of)
    used = {name: value for name, value in state.items() if name not in result.unexpected_keys}
    check_kinds(used, kinds, KEY, checkpoint)
    check_finite(model, infinite, KEY, checkpoint)
    _check_not_zero(model, checkpoint)
    negative = [name for name, value in model.named_buffers() if name.endswith('running_var') and bool((value < 0).any())]
    if negative:
        raise DistillationError(f'holds negative variances, whose root is NaN, in {_listed(negative)}', path=KEY,
                                given=str(checkpoint), accepted='variances >= 0')
    if result.unexpected_keys:
        print_log(f'teacher: {len(result.unexpected_keys)} weights of the file are not in the teacher and are not used '
                  f'({", ".join(result.unexpected_keys[:3])}, ...)', 'current')


def check_kinds(used: Mapping[str, Tensor], kinds: Mapping[str, torch.dtype], path: str, checkpoint: str) -> None:
    """Refuses numbers of a type that says something else than the model's: quantised, of bytes, truth values, complex.

    Args:
        used: the weights of a file, by name.
        kinds: the types that the model has.
        path: the key under which the file stands.
        checkpoint: the file, for messages.

    Raises:
        DistillationError: for the first weight of such a type.
    """
    for name, value in used.items():
        kind = kinds.get(name)  # None: renamed by a hook
        if kind in FLOATS and value.dtype not in FLOATS or kind is None and value.dtype in _NEVER_WEIGHTS:
            raise DistillationError(f'holds {name} as {_name(value.dtype)}', path=path, given=str(checkpoint),
                                    accepted=', '.join(map(_name, FLOATS)))
        if kind is not None and kind not in FLOATS and not torch.equal(value.to(kind).to(value.dtype), value):
            raise DistillationError(f'holds {name} as {_name(value.dtype)}, with numbers that {_name(kind)} does not have',
                                    path=path, given=str(checkpoint), accepted=_name(kind))


def check_finite(model: nn.Module, infinite: Container[str], path: str, checkpoint: str) -> None:
    """Refuses weights that are not finite.

    Args:
        model: the model that has loaded them.
        infinite: names of those that were not before: a mask of -inf is meant to be one.
        path: the key under which the file stands.
        checkpoint: the file, for messages.

    Raises:
        DistillationError: if there are some.
    """
    wrong = [name for name, value in model.state_dict().items() if name not in infinite and not is_finite(value)]
    if wrong:
        raise DistillationError(f'holds NaN or infinity in {_listed(wrong)}', path=path, given=str(checkpoint),
                                accepted='finite numbers')


def _check_not_zero(model: nn.Module, checkpoint: str) -> None:
    """Refuses a teacher that is nearly all zero."""
    matrices = {name: value for name, value in model.named_parameters() if value.dim() > 1}
    zero = [name for name, value in matrices.items() if not value.any()]
    if 2 * len(zero) > len(matrices):
        raise DistillationError(f'holds nothing but zeros in {len(zero)} of the {len(matrices)} matrices and kernels of the '
                                f'teacher ({_listed(zero)})', path=KEY, given=str(checkpoint), accepted='trained weights')


def is_finite(value: Any) -> bool:
    """Whether a tensor has finite numbers only; anything else is taken for finite."""
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _name(kind: torch.dtype) -> str:
    return str(kind).split('.')[-1]


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _that_count(missing: Sequence[str]) -> List[str]:
    return [name for name in missing if not name.endswith('num_batches_tracked')]


def _missing_beside(model: nn.Module, state: Mapping[str, Tensor], wrong: Sequence[str]) -> List[str]:
    """What a checkpoint lacks beside what it has in another shape, which is all that torch tells then.

    Args:
        model: the teacher.
        state: the weights of the checkpoint, by name.
        wrong: torch's lines about weights of another shape.
    """
    shapes = {line.partition('size mismatch for ')[2].partition(':')[0] for line in wrong}
    try:
        result = model.load_state_dict({name: value for name, value in state.items() if name not in shapes}, strict=False)
    except RuntimeError:  # a hook renames them: what is of another shape is told alone
        return []
    return [name for name in _that_count(result.missing_keys) if name not in shapes]


def _not_covered(checkpoint: str, model: nn.Module, names: Mapping[str, Sequence[str]], wanted: int,
                 of: str) -> DistillationError:
    count = sum(map(len, names.values()))
    listed = '. '.join(f'{label}: {_listed(each)}' for label, each in names.items() if each)
    return DistillationError(
        f'covers {wanted - count} of the {wanted} weights of the teacher ({type(model).__name__}); all are needed. {listed}',
        path=KEY, given=str(checkpoint), hint=f'Is it the checkpoint of {of}?')


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names and values of all weights and buffers. (What else a module adds to its state dict is left out.)"""
    digest = hashlib.sha256()
    state: Dict[str, Any] = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
