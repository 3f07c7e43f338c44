"""Walking configs of data sets that wrap one another (``RepeatDataset``, ``ConcatDataset``, ``SplitDataset``, ...)."""
from typing import Any, Callable, Dict, List

DatasetConfig = Dict[str, Any]
WRAPPED = ('dataset', 'datasets')
LOADER = "A loader's config has a dataset, a sampler and a batch_size, as train_dataloader has them."
"""What to do where a loader cannot be built."""


def is_innermost(cfg: Any) -> bool:
    """Whether a data set's config wraps no other."""
    return not isinstance(cfg, dict) or not any(cfg.get(name) for name in WRAPPED)


def innermost(cfg: Any, at: Callable[[Any], bool] = is_innermost) -> List[Any]:
    """The configs inside a nested one at which ``at`` holds, outermost first where they are nested."""
    if isinstance(cfg, (list, tuple)):
        return [found for part in cfg for found in innermost(part, at)]
    if at(cfg) or not isinstance(cfg, dict):
        return [cfg]
    return [found for name in WRAPPED if cfg.get(name) for found in innermost(cfg[name], at)]


def rebuilt(cfg: Any, change: Callable[[Any], Any], at: Callable[[Any], bool] = is_innermost) -> Any:
    """A copy of a nested config, with ``change(config)`` in place of each config at which ``at`` holds; wrappers stay."""
    if isinstance(cfg, (list, tuple)):
        return [rebuilt(part, change, at) for part in cfg]
    if at(cfg) or not isinstance(cfg, dict):
        return change(cfg)
    return {**cfg, **{name: rebuilt(cfg[name], change, at) for name in WRAPPED if cfg.get(name)}}
