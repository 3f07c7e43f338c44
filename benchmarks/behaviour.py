"""Whether two revisions of this repository behave alike: losses to the last bit, and what searches write.

usage: python benchmarks/behaviour.py OLD [NEW] [--cases NAME ...] [--iterations 20] [--work-dir work_dirs/behaviour]

OLD is a revision, NEW another or '.', the working tree. Every case trains a shipped config at a small size, in a checkout of
each revision, in a process with one thread. Both sides read the same data, which is written on the spot, the same teachers
with random weights, and, where a search's result is used, the file that the search of OLD has written. A search is a config
of its own, or derived from the config that uses its result, as the revision has it.

Results of OLD are kept, for this file as it is (but for `EXPECTED`) and this number of iterations. Exit code 1: a difference
that `EXPECTED` does not name, one that it names and that is not there, or a case that failed.
"""
import argparse
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SIDES = ('old', 'new')
PREPARE = 'prepare'  # what a worker is asked for in place of a case
ARTEFACTS = dict(distpro='process', dfa='aggregation')  # the distiller's key, and the name of the file
EXPECTED: Dict[str, str] = {  # case -> why it differs; it is checked that it does
    f'{name}-det-padded': 'padding is left out' for name in ('distpro-search', 'distpro', 'dfa-search', 'dfa')
}


@dataclass(frozen=True)
class Case:
    """A shipped config at a small size; None where its own value is small enough."""
    config: str  # below configs/, {} for the method; of a search: the config that uses its result
    search: str = ''  # file name of the search's own config, beside that, in revisions that have one
    artefact: str = ''  # name of the search whose file is read
    batch: int = 2
    crop: Optional[Tuple[int, int]] = None  # height, width; also of the batch where the preprocessor pads to a size
    scale: Optional[Tuple[int, int]] = None  # width, height that images are resized to
    data_root: Optional[str] = None
    student: Dict[str, Any] = field(default_factory=dict)  # overrides in the student, by dotted key

    def of(self, method: str, **others) -> 'Case':
        return replace(self, config=self.config.format(method), **others)


CIFAR = Case('classification/cifar100-20/{}_resnet14x2-resnet8_8e_cifar100-20.py', batch=16)
CAMVID = Case('segmentation/camvid/{}_pspnet_r18-r18w16-d8_1k_camvid-128x176.py', crop=(64, 96), scale=(120, 90))
DEPTH = Case('depth/7scenes/{}_vpdhead_r18-r18w16_200_7scenes-192x256.py', crop=(96, 128))
CITYSCAPES = Case(
    'segmentation/cityscapes/{}_pspnet_r101-r18-d8_4xb2-40k_cityscapes-512x512.py', crop=(64, 64), scale=(128, 64))
COCO256 = Case('detection/coco256/mgd-amp_{}_r18-r18w16_fpn_300_coco256.py', scale=(128, 128))
COCO = Case('detection/coco/{}_fpn_1x_coco.py', scale=(128, 128))
COCO_EQUAL, COCO256_EQUAL = replace(COCO, data_root='data/coco_equal/'), replace(COCO256, data_root='data/coco256_equal/')
MASK_RCNN = Case('instance_segmentation/coco/{}_mask-rcnn_r101-r50_fpn_1x_coco.py', scale=(64, 64), student={
    'train_cfg.rpn_proposal.max_per_img': 50, 'train_cfg.rcnn.sampler.num': 16})


def searched(name: str, case: Case, method: str, search: str) -> Dict[str, Case]:
    """A search, and the training that uses its result."""
    finds = name.replace('-', '-search-', 1)
    return {finds: case.of(method, search=search), name: case.of(method, artefact=finds)}


DISTPRO_COCO = ('distpro_retinanet_r50-r18-freeze0', 'distpro-search_retinanet_r50-r18-freeze0_fpn_3e_coco.py')
DFA_COCO = ('dfa_retinanet_r50-r18', 'dfa-search_retinanet_r50-r18_fpn_2e_coco.py')
IFVD_SEARCH = 'distpro-ifvd-search_pspnet_r101-r18-d8_4xb2-8k_cityscapes-512x512.py'

CASES = {  # padded: the images of a batch have different sizes
    'mgd-cls': CIFAR.of('mgd-amp'), 'mgd-sm-cls': CIFAR.of('mgd-sm'), 'mgd-rd-cls': CIFAR.of('mgd-rd'),
    'mgd-seg': CAMVID.of('mgd-amp'), 'mgd-seg-demo': Case('demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py'),
    'mgd-retinanet-padded': COCO256.of('retinanet'), 'mgd-faster-rcnn-padded': COCO256.of('faster-rcnn'),
    'mgd-retinanet-equal': COCO256_EQUAL.of('retinanet'), 'mgd-mask-rcnn-padded': MASK_RCNN.of('mgd-amp'),
    'kd-cls': CIFAR.of('kd'), 'kd-seg': CAMVID.of('kd'), 'l2-cls': CIFAR.of('l2'),
    **searched('distpro-cls', CIFAR, 'distpro', 'distpro-search_resnet14x2-resnet8_8e_cifar100-20.py'),
    'distpro-equal-cls': CIFAR.of('distpro-equal', artefact='distpro-search-cls'),
    'distpro-final-cls': CIFAR.of('distpro-final', artefact='distpro-search-cls'),
    **searched('distpro-seg', CAMVID, 'distpro', 'distpro-search_pspnet_r18-r18w16-d8_500_camvid-128x176.py'),
    **searched('distpro-depth', DEPTH, 'distpro', 'distpro-search_vpdhead_r18-r18w16_100_7scenes-192x256.py'),
    **searched('distpro-det-padded', COCO, *DISTPRO_COCO), **searched('distpro-det-equal', COCO_EQUAL, *DISTPRO_COCO),
    **searched('distpro-ifvd-seg', CITYSCAPES, 'distpro-ifvd', IFVD_SEARCH),
    **searched('dfa-cls', CIFAR, 'dfa', 'dfa-search_resnet14x2-resnet8_6e_cifar100-20.py'),
    **searched('dfa-seg', CAMVID, 'dfa', 'dfa-search_pspnet_r18-r18w16-d8_800_camvid-128x176.py'),
    **searched('dfa-det-padded', COCO, *DFA_COCO), **searched('dfa-det-equal', COCO_EQUAL, *DFA_COCO),
}


def picture(rng: np.random.Generator, size: Sequence[int], kinds: Sequence[int]):
    """An image (H, W, 3) of ellipses and rectangles in the colours of their kinds, their boxes, the owner of each pixel."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    wave = np.sin(rows * rng.uniform(.05, .3) + columns * rng.uniform(.05, .3))
    image = 120 + 40 * wave[..., None] * rng.uniform(.3, 1, 3) + rng.normal(0, 6, (*size, 3))
    found, owner = [], np.zeros(size, int)
    for number, kind in enumerate(kinds, 1):
        h, w = (int(rng.integers(side // 4, side // 2)) for side in size)
        top, left = int(rng.integers(size[0] - h)), int(rng.integers(size[1] - w))
        down, right = np.abs(rows - top - h / 2) * 2 / h, np.abs(columns - left - w / 2) * 2 / w
        inside = down ** 2 + right ** 2 < 1 if kind % 2 else np.maximum(down, right) < 1
        image[inside] = np.random.default_rng(kind).uniform(0, 255, 3) + rng.normal(0, 12, (int(inside.sum()), 3))
        owner[inside] = number
        found.append([left, top, w, h])
    return image.clip(0, 255).astype(np.uint8), found, owner


def save(array: np.ndarray, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_scenes(root: str, sizes: Sequence[Tuple[int, int]]) -> None:
    """Scenes in the layouts of Cityscapes (upper rows ignored), of 7-Scenes (without depth at the left) and of COCO."""
    rng, content = np.random.default_rng(2), dict(images=[], annotations=[], categories=[
        dict(id=number, name=name) for number, name in enumerate(
            ('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat'), 1)])
    for number in range(20):
        size, kinds, file = sizes[number % len(sizes)], rng.integers(1, 10, 6).tolist(), f'{number:03d}'
        image, found, owner = picture(rng, size, kinds)
        labels, distance = np.array([0, *kinds], np.uint8)[owner], np.linspace(6000, 2000, size[0])[:, None] - 300 * owner
        labels[:size[0] // 10], distance[:, :8] = 255, 0
        for path, array in ((f'leftImg8bit/train/{file}_leftImg8bit.png', image), (f'train/rgb/{file}.jpg', image),
                            (f'gtFine/train/{file}_gtFine_labelTrainIds.png', labels), (f'images/{file}.png', image),
                            (f'train/depth/{file}.png', distance.astype(np.uint16)), (f'train2017/{file}.png', image)):
            save(array, f'{root}/{path}')
        content['images'].append(dict(id=number, file_name=f'{file}.png', height=size[0], width=size[1]))
        content['annotations'] += [
            dict(id=10 * number + place, image_id=number, category_id=kind, bbox=[x, y, w, h], iscrowd=0, area=w * h,
                 segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])
            for place, (kind, (x, y, w, h)) in enumerate(zip(kinds, found), 1)]
    for path in (Path(root, 'coco/train.json'), Path(root, 'annotations/instances_train2017.json')):
        path.parent.mkdir()
        path.write_text(json.dumps(content))


def write_data() -> None:
    """The training sets of all cases under data/ of the working directory."""
    from mmkd_plugin.datasets.demo_scenes import write_demo_data
    shutil.rmtree('data', ignore_errors=True)
    write_demo_data(Path('data/demo'), train=20, val=2)
    rng, several = np.random.default_rng(1), [(160, 120), (90, 160), (128, 128), (70, 140), (150, 100)]
    for number in range(200):
        kind = number % 20
        save(picture(rng, (32, 32), [kind, kind])[0], f'data/cifar100_20/train/{kind:02d}_shape/{number:03d}.png')
    for root, sizes in dict(camvid=[(90, 120)], cityscapes=[(64, 128)], depth_7scenes=[(112, 144)], coco=several,
                            coco256=several, coco_equal=[(128, 128)], coco256_equal=[(128, 128)]).items():
        write_scenes(f'data/{root}', sizes)


def nodes(node: Any) -> Iterator[dict]:
    """All dicts of a config."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from nodes(value)


def make_local(model: dict) -> None:
    """Random weights instead of files, BN instead of SyncBN."""
    for node in nodes(model):
        if 'pretrained' in node:
            node['pretrained'] = None
        if 'Pretrained' in str(node.get('init_cfg')):
            node['init_cfg'] = None
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'


def save_teacher(reference: str, root: Path) -> None:
    """A teacher of ``package::path`` with random weights, its norms with the statistics of random images."""
    package, _, relative = reference.partition('::')
    folder = root / 'configs' if package == 'mmkd_plugin' else Path(import_module(package).__file__).parent / '.mim/configs'
    cfg = Config.fromfile(folder / relative)
    make_local(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # mm's residual blocks begin with a norm of 0, and would do nothing
            torch.nn.init.uniform_(module.weight, .5, 1.5)
            torch.nn.init.normal_(module.bias, std=.2)
            module.train().momentum = 1.
    with torch.no_grad():
        model.extract_feat(torch.randn(8, 3, 64, 64))
    torch.save(dict(state_dict=model.state_dict()), f'{Path(reference).stem}.pth')


def shrink(cfg: Config, case: Case, iterations: int) -> None:
    """What makes a run short, and without evaluation. The schedule stays the config's."""
    for loader in (cfg.train_dataloader, cfg.test_dataloader):  # a matching update takes the transforms of the latter
        loader.update(batch_size=case.batch, num_workers=0, persistent_workers=False)
        for node in nodes(loader):
            if case.data_root and 'data_root' in node:
                node['data_root'] = case.data_root
            if case.crop and node.get('type') == 'RandomCrop':
                node['crop_size'] = case.crop
            if case.scale and node.get('type') in ('Resize', 'RandomResize'):
                node['scale'] = case.scale
    if case.crop:
        cfg.model.student.data_preprocessor.size = case.crop
    cfg.merge_from_dict({f'model.student.{key}': value for key, value in case.student.items()})
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=10 * iterations, save_last=False)
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False)
    for hook in cfg.get('custom_hooks') or ():
        if hook['type'] == 'mmkd.MatchingUpdateHook':
            hook.update(by_epoch=False, interval=8, num_images=8)


class Losses(Hook):
    """Keeps every number of every iteration's log, to the last bit, as ``iteration 1: name``."""
    priority = 'LOWEST'

    def __init__(self):
        self.values: Dict[str, str] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for name, value in outputs.items():
            number = value.item() if isinstance(value, torch.Tensor) else float(value)
            if not math.isfinite(number):
                raise SystemExit(f'iteration {runner.iter + 1}: {name} is not finite, so there is nothing to compare')
            self.values[f'iteration {runner.iter + 1}: {name}'] = number.hex()


def numbers(node: Any, path: str = '') -> Dict[str, str]:
    """All numbers in what JSON holds, by where they are."""
    if isinstance(node, (int, float)) and not isinstance(node, bool):
        return {path: float(node).hex()}
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return {where: value for key, child in items for where, value in numbers(child, f'{path}.{key}'.lstrip('.')).items()}


def train(name: str, side: str, root: Path, iterations: int) -> None:
    """Runs a case in the working directory and writes result.json beside what it leaves."""
    case, work_dir, artefact = CASES[name], Path(side, name), {}
    path = root / 'configs' / case.config
    if case.search and (root / 'mmkd_plugin/search/derive.py').is_file():
        cfg = import_module('mmkd_plugin.search.derive').derive_search(Config.fromfile(path))
    else:
        cfg = Config.fromfile(path.with_name(case.search or path.name))
    shrink(cfg, case, iterations)
    make_local(cfg.model)
    cfg.model.teacher.checkpoint = f'{Path(cfg.model.teacher.config).stem}.pth'
    distiller = next((key for key in ARTEFACTS if key in cfg.model.distillers), None)
    if case.artefact:
        cfg.model.distillers[distiller][ARTEFACTS[distiller]] = f'old/{case.artefact}/{ARTEFACTS[distiller]}.json'
    cfg.update(work_dir=str(work_dir), randomness=dict(seed=0), experiment_name=name)
    runner, losses = Runner.from_cfg(cfg), Losses()
    runner.register_hook(losses)
    runner.train()
    if case.search:  # what it has found, not where that comes from
        content = json.loads((work_dir / f'{ARTEFACTS[distiller]}.json').read_text())
        artefact = numbers({key: value for key, value in content.items() if key not in ('meta', 'version')})
    (work_dir / 'result.json').write_text(json.dumps(dict(losses=losses.values, artefact=artefact), indent=1))


def work(task: str, side: str, root: Path, iterations: int) -> None:
    """What a worker does: a case, or the data and the teachers of all."""
    import mmkd_plugin
    found = Path(mmkd_plugin.__file__).resolve().parents[1]
    if found != root.resolve():
        raise SystemExit(f'mmkd_plugin was imported from {found}, not from the checkout {root}')
    torch.set_num_threads(1)
    if task != PREPARE:
        train(task, side, root, iterations)
        return
    write_data()
    for reference in {Config.fromfile(root / 'configs' / case.config).model.teacher.config for case in CASES.values()}:
        save_teacher(reference, root)


@dataclass
class Comparison:
    """Runs cases on both sides: each in the checkout of its side; ``folder`` has data, teachers and results."""
    folder: Path
    checkouts: Dict[str, Path]
    iterations: int

    def result(self, side: str, name: str) -> Dict[str, Any]:
        """A case's result; the old side's is kept. Raises ``RuntimeError`` if it fails."""
        result = self.folder / side / name / 'result.json'
        if side == 'new' or not result.exists():
            if not (self.folder / PREPARE).exists():
                self._work(PREPARE, 'old')
                (self.folder / PREPARE).touch()
            if CASES[name].artefact:
                self.result('old', CASES[name].artefact)
            shutil.rmtree(result.parent, ignore_errors=True)
            self._work(name, side)
        return json.loads(result.read_text())

    def _work(self, task: str, side: str) -> None:
        started, log = time.perf_counter(), self.folder / 'logs' / f'{task}-{side}.log'
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ, PYTHONPATH=str(self.checkouts[side]), OMP_NUM_THREADS='1', MKL_NUM_THREADS='1',
                           PYTHONHASHSEED='0', CUDA_VISIBLE_DEVICES='')
        command = [sys.executable, str(Path(__file__).resolve()), str(self.checkouts[side]), '--worker', task, side,
                   '--iterations', str(self.iterations)]
        with log.open('w') as out:
            code = subprocess.run(command, cwd=self.folder, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
        print(f'{task} ({side}): {time.perf_counter() - started:.0f} s', file=sys.stderr, flush=True)
        if code:
            raise RuntimeError(f'{side} failed, see {log}: {["", *log.read_text().splitlines()][-1][:200]}')

    def compare(self, name: str) -> bool:
        """Prints a case's line of the table. Returns whether it is as expected."""
        expected = EXPECTED.get(name, '')
        try:
            old, new = (self.result(side, name) for side in SIDES)
        except RuntimeError as error:
            print(f'| {name} | | | {error} | | {expected} |', flush=True)
            return False
        loss, other = (first_difference(old[part], new[part]) for part in ('losses', 'artefact'))
        found = bool(loss or other)
        artefact = (other or f'equal, {len(old["artefact"])} numbers') if CASES[name].search else ''
        counts = f'{len({key.split(": ")[0] for key in old["losses"]})} | {len(old["losses"])}'
        reason = f'not there: {expected}' if expected and not found else expected
        print(f'| {name} | {counts} | {loss or "bit-equal"} | {artefact} | {reason} |', flush=True)
        return found == bool(expected)


def first_difference(old: Dict[str, str], new: Dict[str, str]) -> str:
    """Of numbers by ``name`` or ``place: name``: names that one side has alone, and the first value that differs, if any."""
    names = [{key.split(': ')[-1] for key in side} for side in (old, new)]
    found = [f'only {side}: {", ".join(sorted(mine - others)[:5])}'
             for side, mine, others in zip(SIDES, names, reversed(names)) if mine - others]
    common = [key for key in {**old, **new} if key.split(': ')[-1] in names[0] & names[1]]
    other = next((key for key in common if old.get(key) != new.get(key)), None)
    if other:
        values = [repr(float.fromhex(side[other])) if other in side else 'missing' for side in (old, new)]
        found.append(f'{other}: {" and ".join(values)}')
    return '; '.join(found)


def git(*arguments: str, check: bool = True) -> str:
    ran = subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True)
    if check and ran.returncode:
        raise SystemExit(f'git {" ".join(arguments)}: {ran.stderr.strip()}')
    return ran.stdout.strip()


@contextmanager
def checkout(revision: str, path: Path) -> Iterator[Path]:
    """The folder with a revision: a worktree at ``path`` while inside, or the working tree for '.'."""
    if revision == '.':
        yield ROOT
        return
    git('worktree', 'remove', '--force', str(path), check=False)  # of a call that was killed
    git('worktree', 'add', '--detach', str(path), revision)
    try:
        yield path
    finally:
        git('worktree', 'remove', '--force', str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('old', help='revision')
    parser.add_argument('new', nargs='?', default='.', help="revision, or '.' for the working tree")
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), metavar='NAME', help=', '.join(CASES))
    parser.add_argument('--iterations', type=int, default=20)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/behaviour')
    parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker, Path(args.old), args.iterations)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that checkouts are removed
    revision, folder = git('rev-parse', '--verify', f'{args.old}^{{commit}}'), args.work_dir.resolve()
    own = re.sub(r'(?ms)^EXPECTED.*?^}', '', Path(__file__).read_text())  # what is expected changes no result
    digest = hashlib.sha256(' '.join([own, version('torch'), version('mmengine')]).encode()).hexdigest()
    with checkout(revision, folder / 'checkout-old') as old, checkout(args.new, folder / 'checkout-new') as new:
        comparison = Comparison(folder / f'{revision[:10]}-{digest[:8]}-{args.iterations}', dict(old=old, new=new),
                                args.iterations)
        print('| case | iterations | loss values | losses | artefact | expected |\n|---|---|---|---|---|---|', flush=True)
        as_expected = [comparison.compare(name) for name in args.cases]
    sys.exit(0 if all(as_expected) else 1)


if __name__ == '__main__':
    main()
