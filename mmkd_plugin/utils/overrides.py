"""Overrides of a config on a command line: ``key=value`` texts and what they mean."""
import argparse
from typing import Any, Dict, List, Sequence

from mmengine.config import DictAction

from .errors import DistillationError, shortened

ACCEPTED = 'KEY=VALUE, e.g. train_cfg.max_epochs=4'
DEEPEST = 40


def parsed_options(flag: str, options: Sequence[str]) -> Dict[str, Any]:
    """The values of ``key=value`` texts, as the upstream ``tools/train.py`` reads them.

    Args:
        flag: the flag that they come from, for messages.
        options: the texts.

    Raises:
        DistillationError: for a text without ``=``, a key with a part that is no name, or a value whose brackets are not
            closed or nested too deeply.
    """
    for text in options:
        key, equals, value = text.partition('=')
        names = key.split('.')
        if not equals or not names[0].isidentifier() or not all(name.isprintable() and name.strip() for name in names):
            raise DistillationError(path=flag, given=text, accepted=ACCEPTED)
        if not _brackets_fit(value):
            raise DistillationError(f'has brackets that do not fit, or more than {DEEPEST} within each other', path=flag,
                                    given=text, accepted=ACCEPTED)
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction, default={})
    try:
        read: Dict[str, Any] = parser.parse_args(['--options', *options]).options
    except (ValueError, AssertionError, RecursionError) as error:  # brackets between commas that do not fit
        raise DistillationError(f'cannot be read ({shortened(str(error))})', path=flag, given=' '.join(options),
                                accepted=ACCEPTED) from None
    return read


def _brackets_fit(value: str) -> bool:
    closing: List[str] = []
    for letter in value:
        if letter in '([':
            closing.append(')' if letter == '(' else ']')
        elif letter in ')]' and (not closing or closing.pop() != letter):
            return False
        if len(closing) > DEEPEST:
            return False
    return not closing
