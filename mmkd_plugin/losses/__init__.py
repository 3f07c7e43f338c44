"""What several methods measure with: distances, divergences, and which part of a batch counts. Pure functions."""
from .batch import Batch
from .distances import DISTANCES, KNOWN_DISTANCE, Distance, halving_weights, hcl, l1, l2, measure, takes_valid
from .divergences import kl_divergence
from .valid_area import ValidArea, mask_padding_option, masked_mean, masked_norm, pixel_labels

__all__ = ['DISTANCES', 'KNOWN_DISTANCE', 'Batch', 'Distance', 'ValidArea', 'halving_weights', 'hcl', 'kl_divergence', 'l1',
           'l2', 'mask_padding_option', 'masked_mean', 'masked_norm', 'measure', 'pixel_labels', 'takes_valid']
