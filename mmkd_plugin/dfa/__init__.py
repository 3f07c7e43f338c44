from .distiller import FeatureAggregationDistiller
from .hook import AggregationSearchHook

__all__ = ['AggregationSearchHook', 'FeatureAggregationDistiller']
