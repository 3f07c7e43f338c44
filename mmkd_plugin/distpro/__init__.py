"""DistPro (Deng et al., ECCV 2022): searching a process of pathway weights, and replaying it."""
from .artefact import read_process
from .distiller import DistProDistiller
from .hook import ProcessSearchHook
from .process import Process
from .transforms import PATHWAY_TRANSFORMS

__all__ = ['PATHWAY_TRANSFORMS', 'DistProDistiller', 'Process', 'ProcessSearchHook', 'read_process']
