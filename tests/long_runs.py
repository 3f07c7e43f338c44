"""Every method on small networks: runs of any length and on odd data, and what a process holds while they go on."""
import gc
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.structures import PixelData
from zoo import IMAGE, STUDENTS, ToyDataset, dfa, distilled, loader, mgd, run_cfg

from mmkd_plugin.dfa.artefact import write_aggregation
from mmkd_plugin.distpro import Process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways

LEVELS = [f'backbone.layer{level}' for level in (1, 2, 3)]
LOGITS = dict(mmseg='decode_head.conv_seg', mmpretrain='head.fc')
METHODS = {  # name -> scopes in which there is one
    'mgd': STUDENTS, 'mgd-auto-scale': STUDENTS, 'distpro-search': STUDENTS, 'distpro-replay': STUDENTS,
    'distpro-equal': STUDENTS, 'dfa-search': STUDENTS, 'dfa-distill': STUDENTS, 'features': STUDENTS,
    'logits': LOGITS, 'ifvd': ['mmseg']}


@DATASETS.register_module(force=True)
class OddDataset(ToyDataset):
    """Samples of one scope cut to sizes.

    Args:
        sizes: (height, width) of item 0, 1, ...; over again at the end. At most those of ``zoo.IMAGE``.
        empty: whether there is no ground truth: no boxes, or no labelled pixel.
    """

    def __init__(self, scope, length=8, sizes=((64, 64),), empty=False, pipeline=()):
        super().__init__(scope, length)
        self.sizes, self.empty = [tuple(size) for size in sizes], empty

    def __getitem__(self, index):
        item, (height, width) = super().__getitem__(index), self.sizes[index % len(self.sizes)]
        data = item['data_samples']
        item['inputs'] = item['inputs'][:, :height, :width]
        data.set_metainfo(dict(img_shape=(height, width), ori_shape=(height, width), pad_shape=(height, width)))
        if 'gt_sem_seg' in data:
            labels = data.gt_sem_seg.data[:, :height, :width]
            data.gt_sem_seg = PixelData(data=torch.full_like(labels, 255) if self.empty else labels)
        if 'gt_instances' in data:
            data.gt_instances.bboxes *= torch.tensor([width, height] * 2) / torch.tensor(IMAGE[::-1] * 2)
            if self.empty:
                data.gt_instances = data.gt_instances[torch.arange(0)]
        return item


def odd_loader(scope, length=8, batch_size=2, **options):
    """A loader of :class:`OddDataset`, in order."""
    cfg = loader(scope, length, batch_size, shuffle=False)
    cfg['dataset'] = dict(type='OddDataset', _scope_='mmengine', scope=scope, length=length, **options)
    return cfg


def networks(scope: str) -> Tuple[dict, dict]:
    """Student and teacher: quick networks, whose batches are as large as their images; two blocks a stage in the teacher."""
    pair = tuple(STUDENTS[scope](base_channels=width) for width in (4, 8))
    for cfg, depth in zip(pair, (8, 14)):
        if scope == 'mmpretrain':
            cfg['backbone'] = dict(type='mmkd.CIFARResNet', depth=depth)
            cfg['head']['in_channels'] = 64
        elif scope == 'mmseg':
            cfg['data_preprocessor'].update(size=None, size_divisor=16)
            # The head of the zoo pools to a single cell, and no batch norm takes one cell of one image.
            cfg['decode_head'] = dict(cfg['auxiliary_head'], in_channels=cfg['decode_head']['in_channels'], in_index=3)
            cfg['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss')
    return pair


def written_process(folder: Path, levels, length=4) -> str:
    """A process file in which one pathway is pruned for a while."""
    pathways = make_pathways(levels, levels, 'lower_to_higher', ['conv1'])
    importance = torch.ones(length, len(pathways), dtype=torch.float64)
    importance[1:-1, 0] = 0
    write_process(folder / 'process.json', Process(pathways, 'biased_softmax', 1., .5, importance, length))
    return str(folder / 'process.json')


def written_aggregation(folder: Path) -> str:
    """An aggregation file for the last two stages of an 18-layer teacher."""
    groups = [dict(name=stage, student=f'backbone.{stage}.1@end', weights=[.25, .75],
                   teacher=[f'backbone.{stage}.{block}@end' for block in range(2)]) for stage in ('layer2', 'layer3')]
    course = {group['name']: [[0, .5, .5], [4, *group['weights']]] for group in groups}
    write_aggregation(folder / 'aggregation.json', groups, dict(model='a teacher', sha256='0' * 64), {}, {}, course)
    return str(folder / 'aggregation.json')


def method(name: str, scope: str, folder: Path, validation: dict, every: int = 2) -> Tuple[dict, List[dict]]:
    """The distiller of a method, by its name in the config, and the hooks it takes; what it reads is written to ``folder``.

    Args:
        name: one of ``METHODS``.
        scope: the scope of the networks.
        folder: where files are written.
        validation: config of the loader for matching updates and searches.
        every: a matching update every so many iterations.
    """
    taps = LEVELS[1:]
    update = dict(type='mmkd.MatchingUpdateHook', interval=every, by_epoch=False, num_images=4, dataloader=validation)
    distpro = dict(type='mmkd.DistProDistiller', levels=LEVELS, transforms='conv1')
    if name == 'mgd':
        return dict(mgd=mgd(*taps)), [update]
    if name == 'mgd-auto-scale':
        return dict(mgd=mgd(*taps, loss_scale='auto', log_gradients=5)), [update]
    if name == 'distpro-search':
        return dict(distpro=dict(distpro, mode='search')), [dict(type='mmkd.ProcessSearchHook', dataloader=validation)]
    if name == 'distpro-replay':
        return dict(distpro=dict(distpro, process=written_process(folder, LEVELS))), []
    if name == 'distpro-equal':
        return dict(distpro=dict(distpro, mode='equal')), []
    if name == 'dfa-search':
        return dict(dfa=dfa('search', taps)), [dict(type='mmkd.AggregationSearchHook', dataloader=validation)]
    if name == 'dfa-distill':
        return dict(dfa=dfa('distill', taps, aggregation=written_aggregation(folder), transfer=True)), []
    if name == 'features':
        return dict(l2=dict(type='mmkd.FeatureDistiller', pairs=taps)), []
    if name == 'logits':
        return dict(kd=dict(type='mmkd.LogitsDistiller', pairs=[LOGITS[scope]])), []
    return dict(ifvd=dict(type='mmkd.IFVDDistiller')), []


def method_cfg(name: str, scope: str, folder: Path, iterations: int, data: Optional[dict] = None,
               validation: Optional[dict] = None, every: int = 2, **options):
    """Config of a run of a method by iterations.

    Args:
        name: one of ``METHODS``, or 'student' for the student alone.
        scope: of the networks.
        folder: the work dir.
        iterations: how many.
        data: config of the training loader, validation: of the one for matching updates and searches; 8 samples by default.
        every: a matching update every so many iterations.
        options: of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    validation = validation or odd_loader(scope, 6)
    student, teacher = networks(scope)
    model, hooks = student, []
    if name != 'student':
        distillers, hooks = method(name, scope, folder, validation, every)
        model = distilled(student, teacher, **distillers)
        if name == 'dfa-search' and iterations >= 8:  # the second group begins early: what it makes is no growth
            hooks[0]['iterations'] = [iterations // 4, iterations - iterations // 4]
    cfg = run_cfg(model, folder, hooks=hooks, **options)
    cfg.experiment_name = f'{name} in {folder}'  # mmengine keeps loggers by name
    cfg.train_dataloader = data or odd_loader(scope)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=False, _scope_='mmengine')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=max(1, iterations // 4), max_keep_ckpts=1)
    return cfg


class Holdings(NamedTuple):
    """What this process holds: MiB of resident memory, and numbers of things."""
    rss: float
    tensors: int
    objects: int
    handles: int
    threads: int


def holdings() -> Holdings:
    """What this process holds at present, once what nobody refers to is gone."""
    gc.collect()
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    objects = gc.get_objects()
    tensors = sum(issubclass(type(each), torch.Tensor) for each in objects)
    return Holdings(pages * os.sysconf('SC_PAGESIZE') / 2 ** 20, tensors, len(objects), len(os.listdir('/proc/self/fd')),
                    len(os.listdir('/proc/self/task')))


class HoldingsHook(Hook):
    """Looks at what the process holds after some iterations, when all other hooks have done their part."""
    priority = 'LOWEST'

    def __init__(self, interval: int):
        self.interval, self.course = interval, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.iter + 1) % self.interval == 0:
            self.course[runner.iter + 1] = holdings()
