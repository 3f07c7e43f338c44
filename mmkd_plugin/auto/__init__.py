"""Distillation without a choice of method: a pool of losses for the task at hand, of one strength."""
from .distiller import AutoDistiller

__all__ = ['AutoDistiller']
