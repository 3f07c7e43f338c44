"""How a network is run: measured before it is chosen."""
from .call import Call
from .network import CHOICE, Runtime
from .options import RUNTIME, RuntimeOptions, Wanted
from .timing import Timings, choose, interleaved

__all__ = ['CHOICE', 'Call', 'RUNTIME', 'Runtime', 'RuntimeOptions', 'Timings', 'Wanted', 'choose', 'interleaved']
