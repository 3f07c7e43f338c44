"""What the runner says about the run at hand; known outside of a Runner too."""
from typing import Optional

from mmengine.logging import MessageHub


def current_iteration() -> int:
    """The runner's global iteration (0 outside a Runner): where every schedule takes its position from."""
    return int(MessageHub.get_current_instance().get_info('iter', 0) or 0)


def run_length() -> Optional[int]:
    """The runner's number of iterations; None outside a Runner."""
    length = MessageHub.get_current_instance().get_info('max_iters', None)
    return None if length is None else int(length)
