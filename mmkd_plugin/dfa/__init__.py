"""DFA (Guan et al., ECCV 2020): searching how to aggregate a teacher's features, and distilling with what was found."""
from .distiller import FeatureAggregationDistiller
from .hook import AggregationSearchHook

__all__ = ['AggregationSearchHook', 'FeatureAggregationDistiller']
