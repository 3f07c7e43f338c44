"""How a network is run: measured before it is chosen."""
from .timing import Timings, choose, interleaved

__all__ = ['Timings', 'choose', 'interleaved']
