"""Every shipped config as a short run on toy data: written to a folder, with teachers and results of searches beside them.

What a config says of distillation stays as it is: taps, options, hooks, search. Networks become narrow, data sets toys,
schedules two iterations, and what would be downloaded is made.
"""
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkd_plugin.utils.config import load_config

from .narrow import narrowed
from .toy import loader

ROOT = Path(__file__).resolve().parents[2] / 'configs'
ITERATIONS = 2
IMAGES_TO_SEARCH = 12
EMPTY = 'level_embed'  # DETR makes it of memory as it is, and fills it in init_weights
TASKS = dict(mmpretrain='classification', mmseg='segmentation', mmdet='detection')
DISTPRO, DFA, UPDATE = 'mmkd.DistProDistiller', 'mmkd.FeatureAggregationDistiller', 'mmkd.MatchingUpdateHook'
OURS = ('default_hooks', 'optim_wrapper', 'randomness', 'custom_imports', 'custom_hooks', 'search',
        'data_preprocessor', 'default_scope', 'log_processor', 'log_level', 'env_cfg', 'auto_scale_lr')


@dataclass(frozen=True)
class Shipped:
    """One shipped config, made small.

    Attributes:
        name: below ``configs``.
        content: the small config, in plain dicts.
        distilled: whether it distils.
            searches: whether it describes a search.
        checkpoint: that of its teacher, None where it has none.
    """
    name: str
    content: Dict[str, Any]
    checkpoint: Optional[str] = None

    @property
    def distilled(self) -> bool:
        return 'distillers' in self.content['model']

    @property
    def searches(self) -> bool:
        return self.content.get('search') is not None


def names() -> List[str]:
    """All shipped configs, below ``configs``."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob('*.py') if '_base_' not in path.parts)


def small(name: str, folder: Path) -> Shipped:
    """A shipped config made small; its teacher stands in ``folder`` with weights, as training it would leave them."""
    cfg = Config.fromfile(ROOT / name)
    content: Dict[str, Any] = plain({key: cfg[key] for key in OURS if key in cfg})
    image = image_size(cfg, name)
    task = 'depth' if '/nyu/' in name or '/7scenes/' in name else TASKS[cfg.default_scope]
    model = plain(cfg.model)
    if 'distillers' in model:
        model['student'] = sized(narrowed(model['student'], image), image, task)
        model['teacher']['config'] = teacher(model['teacher']['config'], image, task, folder)
        model['teacher'].pop('runtime', None)  # 'auto' measures for seconds, and folded weights are not those of the file
        model['image_shape'] = (3, *image)
        content['custom_hooks'] = [dict(hook, **quick(hook)) for hook in content.get('custom_hooks') or []]
        for distiller in model['distillers'].values():
            distiller.update(quick(distiller))
    else:
        model = sized(narrowed(model, image), image, task)
    content.update(model=model, work_dir='run', **schedule(cfg, task, image))
    content['randomness'] = dict(content.get('randomness') or {}, seed=0)
    if content.get('search') is not None:
        content['search'] = quick_search(content['search'], content, loader(task, image, IMAGES_TO_SEARCH + 2))
    content['optim_wrapper']['optimizer'].update(lr=1e-4)  # the shipped one diverges on noise
    return Shipped(name, content, checkpoint_of(model['teacher']['config']) if 'teacher' in model else None)


def plain(node: Any) -> Any:
    """A copy in plain dicts, lists and tuples."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return type(node)(map(plain, node)) if isinstance(node, (list, tuple)) else node


def image_size(cfg: Config, name: str):
    """(height, width) of the toy images: those of the CIFAR networks are small."""
    return (32, 32) if '/cifar' in name or '/cinic' in name else (64, 64)


def sized(model: Dict[str, Any], image, task: str) -> Dict[str, Any]:
    """A model whose preprocessor does not resize the toy images."""
    preprocessor = model.get('data_preprocessor')
    if preprocessor is not None and 'size' in preprocessor:
        preprocessor['size'] = image
    model.get('data_preprocessor', {}).pop('batch_augments', None)
    if (model.get('train_cfg') or {}).get('augments'):
        model['train_cfg'] = None  # a mixture of classes of its own would want as many classes as the head
    return model


def teacher(reference: str, image, task: str, folder: Path) -> str:
    """Writes a small teacher's config, and the checkpoint that training it would leave; returns its path in ``folder``."""
    name = re.sub(r'\W+', '_', reference.removesuffix('.py')).strip('_')
    path = Path('teachers', f'{name}.py')
    if not (folder / path).is_file():
        cfg = load_config(reference, 'teacher')
        model = sized(narrowed(plain(cfg.model), image), image, task)
        scope = cfg.get('default_scope') or reference.partition('::')[0]
        small_cfg = Config(dict(default_scope=scope, model=model, train_cfg=dict(max_epochs=1)))
        if cfg.get('data_preprocessor') is not None:
            small_cfg.data_preprocessor = plain(cfg.data_preprocessor)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        small_cfg.dump(folder / path)
        built = dict(small_cfg.model)
        if 'data_preprocessor' in small_cfg:
            built.setdefault('data_preprocessor', small_cfg.data_preprocessor)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(scope):
            network = MODELS.build(built)
        checkpoint = folder / checkpoint_of(str(path))
        checkpoint.parent.mkdir(parents=True)
        torch.save(dict(meta=dict(epoch=1, iter=2), state_dict=as_trained(network)), checkpoint)
    return str(path)


def checkpoint_of(path: str) -> str:
    """Where training a small teacher leaves its weights."""
    return f'work_dirs/{Path(path).stem}/epoch_1.pth'


def as_trained(network: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """The weights of a network, moved a little: none is exactly what it begins with, such as 0."""
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.zeros_like(value) if name.endswith(EMPTY) else value
             for name, value in network.state_dict().items()}
    return {name: value * (1 + .02 * torch.rand(value.shape, generator=generator)) + 1e-4 if value.is_floating_point()
            else value for name, value in state.items()}


def schedule(cfg: Config, task: str, image) -> Dict[str, Any]:
    """Loaders of toy data and a training of two iterations, counted as the config counts."""
    by_epoch = cfg.train_cfg.get('max_epochs') is not None
    length = dict(max_epochs=1) if by_epoch else dict(max_iters=ITERATIONS)
    kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    val = loader(task, image, shuffle=False)
    return dict(train_dataloader=loader(task, image), val_dataloader=val, val_cfg=dict(type='ValLoop'),
                val_evaluator=dict(type='FuzzMetric', _scope_='mmengine'),
                train_cfg=dict(type=kind, val_begin=1000, val_interval=1000, **length))


def quick(block: Dict[str, Any]) -> Dict[str, Any]:
    """What has to be shorter where a run has two iterations."""
    found: Dict[str, Any] = {}
    if block.get('type') == UPDATE:
        found.update(num_images=4)
        if not block.get('by_epoch', True):
            found.update(interval=1)
    if 'calibration_iters' in block:
        found.update(calibration_iters=2)
    if 'warmup' in block:  # it has to be reached
        found.update(warmup=1)
    return found


def quick_search(search: Dict[str, Any], content: Dict[str, Any], images: Dict[str, Any]) -> Dict[str, Any]:
    """The search of a config, in four iterations, one for each group of the longest; on so many images that both parts have
    whole batches."""
    config = {key: value for key, value in (search.get('config') or {}).items()
              if key not in ('train_cfg', 'param_scheduler')}
    config['train_dataloader'] = dict(dataset=dict(length=IMAGES_TO_SEARCH))
    if 'max_iters' in content['train_cfg']:
        config['train_cfg'] = dict(max_iters=4)
    hook = search.get('hook') or {}
    if 'dataloader' in hook:
        search = dict(search, hook=dict(hook, dataloader=images))
    return dict(search, config=config)
