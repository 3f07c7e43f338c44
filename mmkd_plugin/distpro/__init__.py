from .distiller import DistProDistiller
from .hook import ProcessSearchHook
from .process import Process, read_process
from .transforms import PATHWAY_TRANSFORMS

__all__ = ['PATHWAY_TRANSFORMS', 'DistProDistiller', 'Process', 'ProcessSearchHook', 'read_process']
