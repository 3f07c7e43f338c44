from .distillation import Distillation
from .distiller import Batch, Distiller, TapNames
from .errors import DistillationError
from .overlay import DistilledMixin, build_distilled_model
from .runner import DistillationHook, StatefulHook, extend_runner
from .taps import FeatureTaps, TapAddress
from .teacher import Teacher, build_teacher

__all__ = ['Batch', 'DistillationError', 'Distillation', 'DistillationHook', 'DistilledMixin', 'Distiller', 'FeatureTaps',
           'StatefulHook', 'TapAddress', 'TapNames', 'Teacher', 'build_distilled_model', 'build_teacher', 'extend_runner']
