"""``model-index.yml`` and a ``metafile.yml`` in each folder of configs: by these MIM finds and trains what is shipped.

What is trained with what follows from the names and texts of the configs, results from the accuracy tables.

usage: python -m mmkd_plugin.report.metafiles        (in a checkout; writes the files)
"""
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import yaml

from ..utils.files import write_whole
from .accuracy import Row, Table
from .results import read_results

ROOT = Path(__file__).resolve().parents[2]
HEADER = '# Made by `python -m mmkd_plugin.report.metafiles`; a test holds it and the configs together.\n'
TASKS = dict(classification='Image Classification', demo='Semantic Segmentation', depth='Depth Estimation',
             detection='Object Detection', instance_segmentation='Instance Segmentation',
             segmentation='Semantic Segmentation')
DATASETS = {'7scenes': '7-Scenes (one scene)', 'bccd': 'BCCD', 'camvid': 'CamVid', 'cifar100': 'CIFAR-100',
            'cifar100-20': 'CIFAR-100 (20 classes)', 'cinic10': 'CINIC-10', 'cityscapes': 'Cityscapes', 'coco': 'COCO',
            'coco256': 'COCO (256 images)', 'cub': 'CUB-200-2011', 'demo': 'Digits (embedded)', 'imagenet': 'ImageNet-1k',
            'nyu': 'NYUv2'}
METRICS = {'mIoU': 'mIoU', 'accuracy/top1': 'Top 1 Accuracy', 'coco/bbox_mAP': 'box AP', 'coco/bbox_mAP_50': 'box AP50'}
TABLES = ('cifar100-20_8e', 'pool_cifar100-20', 'camvid', 'cifar100-20', 'distpro_cifar100-20', 'dfa_cifar100-20',
          'dfa_resnet26_cifar100-20', 'coco256', 'bccd', 'pool_demo')
"""The tables that train configs as they are shipped. A config that is a row of several has the result of the first."""
FOUND_BEFORE = re.compile(r'model\.teacher\.checkpoint|model\.distillers\.\w+\.(process|aggregation)')
"""Overrides that name a file that the table itself has made, and change nothing else."""
FORMATS = re.compile(r'model\.teacher\.runtime\.\w+|default_hooks\.format\.mode')
"""Overrides that say how the same is computed."""


@dataclass(frozen=True)
class Collection:
    """What configs have in common whose names begin alike.

    Args:
        name: shown by MIM.
        prefixes: what stands before the first ``_`` of such a config's name, up to a ``-``; empty: all that no other has.
        readme: its page of the documentation, from the root (in the file from its own folder).
        title, url: the paper, where there is one.
    """
    name: str
    prefixes: Tuple[str, ...] = ()
    readme: str = ''
    title: str = ''
    url: str = ''

    def entry(self) -> Dict[str, Any]:
        """As a metafile has it."""
        paper = dict(Paper=dict(Title=self.title, URL=self.url)) if self.title else {}
        return {'Name': self.name, 'License': 'Apache License 2.0', **paper, 'README': f'../{self.readme}'}


COLLECTIONS = (
    Collection('MGD', ('mgd',), 'docs/mgd.md', 'Matching Guided Distillation', 'https://arxiv.org/abs/2008.09958'),
    Collection('DistPro', ('distpro',), 'docs/distpro.md',
               'DistPro: Searching a Fast Knowledge Distillation Process via Meta Optimization',
               'https://arxiv.org/abs/2204.05547'),
    Collection('DFA', ('dfa',), 'docs/dfa.md', 'Differentiable Feature Aggregation Search for Knowledge Distillation',
               'https://arxiv.org/abs/2008.00506'),
    Collection('Pools of losses', ('auto', 'pool'), 'docs/pool.md'),
    Collection('Losses of the field', ('ab', 'at', 'cosine', 'cwd', 'fitnet', 'ft', 'ifvd', 'kd', 'l2', 'ofd', 'pkd',
                                       'reviewkd', 'sp'), 'docs/losses.md'),
    Collection('Networks alone', (), 'docs/configs.md'))


def metafiles(root: Path = ROOT) -> Dict[str, str]:
    """The files by their path in the checkout: the index, the collections, and one file for each folder of configs."""
    results = dict(measured(root))
    files: Dict[str, Any] = {'configs/metafile.yml': dict(Collections=[each.entry() for each in COLLECTIONS])}
    for folder in sorted({path.parent for path in shipped(root)}):
        models = [model(path, root, results) for path in shipped(root) if path.parent == folder]
        files[str(folder.relative_to(root) / 'metafile.yml')] = dict(Models=models)
    files = {'model-index.yml': dict(Import=list(files)), **files}
    return {path: HEADER + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
            for path, content in files.items()}


def shipped(root: Path = ROOT) -> List[Path]:
    """All configs but those that others are made of."""
    return [path for path in sorted((root / 'configs').rglob('*.py')) if '_base_' not in path.parts]


def model(path: Path, root: Path, results: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """The entry of one config."""
    config = str(path.relative_to(root))
    _, task, *folders = Path(config).parent.parts
    dataset = DATASETS[folders[0] if folders else task]
    teacher = teacher_of(path)
    metadata = {'Training Data': dataset, **({'Teacher': teacher} if teacher else {})}
    found = dict(Results=[dict(Task=TASKS[task], Dataset=dataset, Metrics=results[config])]) if config in results else {}
    return {'Name': path.stem, 'In Collection': collection_of(path.stem).name, 'Config': config, 'Metadata': metadata,
            **found}


def collection_of(name: str) -> Collection:
    """The collection of a config, by its name."""
    method = re.split(r'[-_]', name)[0]
    return next(each for each in COLLECTIONS if method in each.prefixes or not each.prefixes)


def teacher_of(path: Path) -> Optional[str]:
    """The config of the teacher, as the config or one of this repository that it builds on has it."""
    text = path.read_text()
    found = re.search(r"teacher=dict\(\s*config='([^']+)'", text)
    base = re.search(r"_base_ = '(\..+)'", text)
    return found[1] if found else teacher_of(path.parent / base[1]) if base else None


def measured(root: Path = ROOT) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """(config, metrics) of each row of the tables that is a config as it is shipped, those of the first table last."""
    for name in reversed(TABLES):
        results = read_results(root / f'benchmarks/results/{name}.json')
        table = Table.from_file(root / f'benchmarks/tables/{name}.py')
        for row in table.rows:
            if row.name in results and is_the_config(row):
                values = [table.scale * cell.value for cell in results[row.name].values()]
                yield row.config, {METRICS[table.metric]: round(statistics.mean(values), 2), 'Seeds': len(values)}


def is_the_config(row: Row) -> bool:
    """Whether a row trains its config unchanged."""
    return row.stage == 'train' and all(
        FORMATS.fullmatch(key) or FOUND_BEFORE.fullmatch(key) and str(value).startswith('{')
        for key, value in row.overrides.items())


if __name__ == '__main__':
    for place, content in metafiles().items():
        write_whole(ROOT / place, content)
