"""Datasets that need no codebase. Those of a codebase are registered where it is installed."""
from importlib.util import find_spec

if find_spec('mmseg') is not None:
    from .camvid import CamVidDataset  # noqa: F401
