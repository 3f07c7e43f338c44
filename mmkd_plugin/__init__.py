"""Knowledge distillation for OpenMMLab configs, by inheritance. ``custom_imports = dict(imports='mmkd_plugin')``."""
import sys
from importlib import import_module

from .version import __version__

_NEEDED = dict(mmengine='mmengine', mmcv='mmcv', torch='torch', scipy='scipy')


def _check_environment() -> None:
    for module, package in _NEEDED.items():
        try:
            import_module(module)
        except ImportError as error:
            hint = ' (or mmcv-lite, without a compiler: see "Installation" in the README)' if package == 'mmcv' else ''
            raise ImportError(f'mmkd_plugin needs {package}, which cannot be imported: {error}. '
                              f'Install it with: pip install {package}{hint}') from error
    from .utils.torch_versions import OLDEST, release
    if release() < OLDEST:
        raise ImportError(f'mmkd_plugin needs torch {OLDEST[0]}.{OLDEST[1]} or later, and this is '
                          f'{sys.modules["torch"].__version__}')


_check_environment()

# Only now: what they import has just been checked. First what stands in for mmcv's operators, before a module asks for them.
from .utils.mmcv_operators import offer_placeholder  # noqa: E402, I001

offer_placeholder()

from . import auto, backbones, baselines, datasets, dfa, distpro, losses, mgd, preflight  # noqa: E402
from .distiller import Batch, Distiller, Pairs, ParsedPair  # noqa: E402
from .model import extend_runner  # noqa: E402
from .model.plain import plain_config  # noqa: E402
from .model.run_checks import extend_builders  # noqa: E402
from .utils.checkpoint_files import extend_checkpoint_loader  # noqa: E402
from .utils.config import extend_bases, name_packages_of_onedl  # noqa: E402
from .utils.errors import DistillationError  # noqa: E402

extend_checkpoint_loader()
extend_runner()
extend_builders()
extend_bases()
name_packages_of_onedl()

__all__ = ['Batch', 'DistillationError', 'Distiller', 'Pairs', 'ParsedPair', '__version__', 'auto', 'backbones',
           'baselines', 'datasets', 'dfa', 'distpro', 'losses', 'mgd', 'plain_config', 'preflight']
