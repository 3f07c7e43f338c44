"""The overlay: a student that can be distilled, its teacher, one training forward, and what a checkpoint keeps."""
from .channels_last import ChannelsLastHook
from .checkpoint import DistillationHook, StatefulHook
from .distillation import Distillation
from .overlay import DistilledMixin, build_distilled_model
from .runner import extend_runner
from .step import Step
from .student import distillation_of, distilled, unwrap
from .teacher import Teacher, build_teacher

__all__ = ['ChannelsLastHook', 'Distillation', 'DistillationHook', 'DistilledMixin', 'StatefulHook', 'Step', 'Teacher',
           'build_distilled_model', 'build_teacher', 'distillation_of', 'distilled', 'extend_runner', 'unwrap']
