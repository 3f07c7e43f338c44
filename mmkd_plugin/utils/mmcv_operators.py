"""mmcv's compiled operators: where there are none, a placeholder, so that mmcv-lite is enough until one is called."""
import sys
from importlib.util import find_spec

EXTENSION = 'mmcv._ext'


def offer_placeholder() -> None:
    """Lets ``mmcv.ops`` import where mmcv came without compiled operators (mmcv-lite); nothing is written to disk.

    Compiled operators are never replaced. mmcv has to be importable.
    """
    if EXTENSION not in sys.modules and find_spec(EXTENSION) is None:
        from . import mmcv_placeholder
        sys.modules[EXTENSION] = mmcv_placeholder
