"""Distillation without a choice of method: a pool of losses for the task at hand, weighed by a process."""
from .distiller import AutoDistiller

__all__ = ['AutoDistiller']
