"""Reading features of a model by address, without touching the model. ``docs/design.md`` has the addresses."""
from .address import TapAddress, TapText, resolve_module, without_teacher
from .dry_run import dry_run, dry_sample
from .feature_taps import FeatureTaps, Replacements, TapInfo
from .recording import FeatureSum, Recording
from .shapes import laid_out, widened
from .tap import Tap, TapError

__all__ = ['FeatureSum', 'FeatureTaps', 'Recording', 'Replacements', 'Tap', 'TapAddress', 'TapError', 'TapInfo',
           'TapText', 'dry_run', 'dry_sample', 'laid_out', 'resolve_module', 'widened', 'without_teacher']
