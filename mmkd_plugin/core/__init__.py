from .distillation import Distillation
from .distiller import Batch, Distiller
from .errors import DistillationError
from .overlay import DistilledMixin, build_distilled_model
from .runner import DistillationHook, extend_runner
from .taps import FeatureTaps, TapAddress
from .teacher import Teacher, build_teacher

__all__ = ['Batch', 'DistillationError', 'Distillation', 'DistillationHook', 'DistilledMixin', 'Distiller', 'FeatureTaps',
           'TapAddress', 'Teacher', 'build_distilled_model', 'build_teacher', 'extend_runner']
