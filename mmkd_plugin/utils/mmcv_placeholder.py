"""Stands where mmcv's compiled operators would: what imports them works with mmcv-lite, what calls one gets one error.

mmseg, mmdet and mmpretrain import every operator of mmcv, and most models call none. With this module as ``mmcv._ext`` they
import, and segmentation and classification run. It needs the standard library alone: `tools/setup_env.sh` copies it into the
mmcv of an environment that it makes without a compiler; elsewhere importing mmkd_plugin offers it (``mmcv_operators.py``).
"""
from functools import partial
from typing import Any, Callable, NoReturn

NOT_COMPILED = 'not compiled'


class MissingOperatorError(RuntimeError):
    """An operator of mmcv was called that is not compiled here."""


def get_compiler_version() -> str:
    """What mmcv's report of the environment says about the compiler."""
    return NOT_COMPILED


def get_compiling_cuda_version() -> str:
    """What mmcv's report of the environment says about CUDA."""
    return NOT_COMPILED


def __getattr__(name: str) -> Callable[..., Any]:
    """Any operator: there, as mmcv checks at import, and an error when it is called."""
    if name.startswith('__'):
        raise AttributeError(name)
    return partial(_missing, name)


def _missing(name: str, *arguments: Any, **options: Any) -> NoReturn:
    raise MissingOperatorError(
        f"mmcv's operator {name!r} was called, and this environment has none of mmcv's compiled operators. Segmentation and "
        'classification do without; detection needs them, and so do a few heads and backbones (deformable convolution, '
        'point sampling). Install mmcv with its operators instead of mmcv-lite: `make env` or "Installation" in the README.')
