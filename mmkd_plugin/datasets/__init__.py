"""Datasets. Those of a codebase are registered where that codebase can be imported."""
from mmengine.logging import print_log

from .on_device import ImagesOnDevice
from .split import SplitDataset

try:
    from .camvid import CamVidDataset  # noqa: F401
except ImportError as error:  # mmseg is not there, or does not work here: other codebases' users need not care
    print_log(f'mmkd.CamVidDataset is not registered: {error}', 'current', level=10)

__all__ = ['ImagesOnDevice', 'SplitDataset']
