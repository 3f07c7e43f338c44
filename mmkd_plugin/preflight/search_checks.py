"""Checks of searches: long enough for their step size, and judged by images of their own."""
from typing import Iterator, List, Optional

from ..dfa import FeatureAggregationDistiller
from ..dfa.phases import phases_of
from ..utils.errors import DistillationError
from .findings import Finding, advice, check, error, warning
from .setup import Part, Setup

FEWEST, MOST, HOPELESS = 2.0, 10.0, 0.2
"""What lr times the iterations of a group should be (docs/dfa.md), and below what nothing can be found."""
ADAMS = ('Adam', 'AdamW')
ADAMS_RATE = 1e-3
"""torch's, where a config names no rate."""
LARGE_STEP = 0.5
"""A step of DistPro's importance by so much changes weights by a factor of exp(0.5), for one batch."""
SHORTEST_WAY = 1.0
"""How far the importance can go at most in a search from which something can be read."""


@check('config')
def dfa_search_length(setup: Setup) -> Iterator[Finding]:
    """DFA: lr times the iterations of a group."""
    for hook in setup.hooks:
        if not hook.is_a('AggregationSearchHook') or hook.options.optimizer.get('type') not in ADAMS:
            continue
        lengths = _steps_of_groups(setup, hook)
        rate = float(hook.options.optimizer.get('lr', ADAMS_RATE))
        if not lengths:
            continue
        steps = min(lengths)
        product = rate * steps
        key = f'{hook.key}.optimizer.lr'
        found = f'lr {rate:g} times {steps} iterations of a group is {product:.2g}: Adam moves each beta by at most that'
        fix = (f'It should be {FEWEST:g} to {MOST:g}: a rate of {_rounded(2 * FEWEST / steps)}, or a longer search '
               f'({_key_of_length(setup)})')
        if product < HOPELESS:
            yield error(key, f'{found}, so the file will hold the weights that the search began with', fix)
        elif product < FEWEST:
            yield warning(key, f'{found}, so weights that are not equal cannot be reached', fix)
        elif max(lengths) * rate > 2 * MOST:
            yield advice(key, f'lr {rate:g} times {max(lengths)} iterations of a group is {max(lengths) * rate:.2g}', fix)


@check('config')
def distpro_rate(setup: Setup) -> Iterator[Finding]:
    """DistPro: the rate of the importance beside the number of steps."""
    for hook in setup.hooks:
        if not hook.is_a('ProcessSearchHook') or hook.options.lr == 'auto':  # which follows from the length
            continue
        rate, key = float(hook.options.lr), f'{hook.key}.lr'
        steps = None if setup.iterations is None else setup.iterations // hook.options.interval
        if rate > LARGE_STEP:
            yield warning(key, f'{rate:g} lets one batch change the weight of a pathway by a factor of exp({rate:g}): what '
                          'is found is the noise of the last batches', "The paper's is 0.05")
        if steps is None:
            continue
        if rate * steps < SHORTEST_WAY:
            yield warning(key, f'{rate:g} times {steps} search steps is {rate * steps:.2g}: Adam moves an importance by at '
                          'most that, and all pathways stay nearly equal', f'Search longer ({_key_of_length(setup)}), with '
                          f'a shorter interval, or with a rate of {_rounded(2 * SHORTEST_WAY / max(1, steps))}')


@check('config', at_start=False)
def judged_by_the_benchmark(setup: Setup) -> Iterator[Finding]:
    """A search that is judged by the images on which its result is reported; the search itself says so when it begins."""
    for hook in setup.hooks:
        loader = getattr(hook.options, 'dataloader', None)
        if not hook.is_a('AggregationSearchHook', 'ProcessSearchHook') or not isinstance(loader, dict):
            continue
        same = [name for name in ('val', 'test') if isinstance(setup.cfg.get(f'{name}_dataloader'), dict)
                and setup.cfg[f'{name}_dataloader'].get('dataset') == loader.get('dataset') is not None]
        if same:
            yield warning(f'{hook.key}.dataloader', f'has the data set of {same[0]}_dataloader: what is found is fitted to '
                          'it, and results on it are too good', 'Leave it out: a part of the training set is held out then')


def _steps_of_groups(setup: Setup, hook: Part) -> List[int]:
    """How many iterations each group is searched for; empty where that is not known."""
    groups = _searched_groups(setup)
    if not groups or setup.iterations is None:
        return []
    names = {number: str(number) for number in range(groups)}
    try:
        phases = phases_of(names, setup.iterations, hook.options.iterations, hook.options.weights_first)
    except DistillationError:
        return []  # an error of its own
    return [phase.end - phase.begin for phase in phases]


def _searched_groups(setup: Setup) -> Optional[int]:
    """How many groups are searched: known with the models; without them, as many as there are pairs."""
    if 'models' in setup.has:
        found = [distiller for distiller in setup.distillation.distillers.values()
                 if isinstance(distiller, FeatureAggregationDistiller)]
        return sum(group.searched for group in found[0].connected_groups()) if found else None
    parts = [part for part in setup.distillers.values() if part.is_a('FeatureAggregationDistiller')]
    return len(parts[0].options.pairs) if parts else None


def _rounded(number: float) -> str:
    return f'{number:.1g}'


def _key_of_length(setup: Setup) -> str:
    return 'search.config.train_cfg' if setup.of_training else 'train_cfg'
