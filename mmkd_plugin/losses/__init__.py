"""Distances between features that several methods share: pure functions, by name in ``DISTANCES``."""
from .distances import DISTANCES, find_distance, hcl, l1, l2

__all__ = ['DISTANCES', 'find_distance', 'hcl', 'l1', 'l2']
