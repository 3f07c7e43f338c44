"""Names of types that are not registered: which one was meant."""
from typing import Sequence

from .errors import DistillationError, unknown_name

SHORT_NAMES = dict(mgd='MatchingGuidedDistiller', matchingguided='MatchingGuidedDistiller', distpro='DistProDistiller',
                   dfa='FeatureAggregationDistiller', kd='LogitsDistiller', reviewkd='ReviewKDDistiller',
                   ifvd='IFVDDistiller', fitnet='FeatureDistiller',
                   l2='FeatureDistiller', cwd='FeatureDistiller', pkd='FeatureDistiller',
                   dist='LogitsDistiller')
"""By what the field calls a method, in lower case, the class of its distiller."""


def unknown_type(path: str, kind: str, known: Sequence[str], hint: str = '') -> DistillationError:
    """The error for a type that is not registered.

    Args:
        path: the key.
        kind: what was given, ``'mmkd.MGD'``.
        known: the types that may stand there.
        hint: what to do.
    """
    error = unknown_name(path, kind, known, hint)
    meant = f'mmkd.{SHORT_NAMES.get(kind.rpartition(".")[2].lower().replace("distiller", ""), "")}'
    if meant in known:
        error.nearest = (meant,)
    return error
