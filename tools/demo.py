"""The demo: MGD on embedded data, with `tools/train.py` and shipped configs only.

Trains a teacher, then the student alone and the student with MGD, several seeds each, on equal data and schedule;
evaluates them on held-out scenes, prints a table and writes a picture. What is finished is not trained again.

usage: python tools/demo.py [--seeds 0 1 2] [--work-dir work_dirs/demo]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mmkd_plugin.analysis.pictures import draw_segmentations
from mmkd_plugin.datasets.demo_scenes import BACKGROUND, write_demo_data

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/demo')
TEACHER = 'pspnet_r18w32-d8_demo-64x128'
STUDENTS = {'student alone': 'pspnet_r18w8-d8_demo-64x128',
            'student with MGD': 'mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128'}
PICTURE_ROWS = 4


def train(config: str, folder: Path, threads: int, *overrides: str) -> float:
    """Trains a shipped config unless its result is there. Returns the mIoU (%) on the validation scenes."""
    result = folder / 'miou.json'
    if not result.exists():
        started = time.perf_counter()
        command = [sys.executable, 'tools/train.py', f'configs/demo/{config}.py', '--work-dir', str(folder)]
        if overrides:
            command += ['--cfg-options', *overrides]
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'train.log', 'w') as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False,
                                  env={**os.environ, 'OMP_NUM_THREADS': str(threads)}).returncode
        if code:
            raise SystemExit(f'{config} failed; the end of {folder / "train.log"}:\n'
                             + '\n'.join((folder / 'train.log').read_text().splitlines()[-15:]))
        scalars = max(folder.glob('*/vis_data/scalars.json'), key=os.path.getmtime)
        lines = [json.loads(line) for line in scalars.read_text().splitlines()]
        result.write_text(json.dumps([line['mIoU'] for line in lines if 'mIoU' in line][-1]))
        seconds = time.perf_counter() - started
        print(f'  {folder.name}: mIoU {json.loads(result.read_text()):.2f} ({seconds:.0f} s)', flush=True)
    return json.loads(result.read_text())


def run_all(work_dir: Path, seeds) -> dict:
    """Trains everything; returns the mIoUs by name, one per seed."""
    cores = os.cpu_count() or 1
    teacher_folder = work_dir / 'teacher'
    results = {'teacher': [train(TEACHER, teacher_folder, cores)]}
    checkpoint = next(teacher_folder.glob('iter_*.pth'))
    workers = min(cores, len(seeds) * len(STUDENTS))
    with ThreadPoolExecutor(workers) as pool:
        jobs = {}
        for seed in seeds:
            for name, config in STUDENTS.items():
                overrides = [f'randomness.seed={seed}']
                if config.startswith('mgd'):
                    overrides.append(f'model.teacher.checkpoint={checkpoint}')
                folder = work_dir / f'{name.replace(" ", "-")}-seed{seed}'
                jobs[name, seed] = pool.submit(train, config, folder, max(1, cores // workers), *overrides)
        for name in STUDENTS:
            results[name] = [jobs[name, seed].result() for seed in seeds]
    return results


def table(results: dict) -> str:
    """The results as a markdown table."""
    lines = ['| model | mIoU mean | standard deviation | each seed |', '|---|---|---|---|']
    for name, values in results.items():
        spread = f'{statistics.stdev(values):.2f}' if len(values) > 1 else '-'
        lines.append(f'| {name} | {statistics.mean(values):.2f} | {spread} | {", ".join(f"{v:.2f}" for v in values)} |')
    return '\n'.join(lines)


def draw(work_dir: Path, seed: int, path: Path) -> None:
    """Writes the picture: input, truth and what each model of a seed makes of it."""
    from mmengine.config import Config
    from mmseg.apis import inference_model, init_model
    from mmseg.registry import DATASETS
    from PIL import Image

    from mmkd_plugin.core.launch import replace_sync_bn
    folders = {'teacher': (TEACHER, work_dir / 'teacher'),
               **{name: (config, work_dir / f'{name.replace(" ", "-")}-seed{seed}') for name, config in STUDENTS.items()}}
    models = {}
    for name, (config, folder) in folders.items():
        cfg = Config.fromfile(ROOT / 'configs' / 'demo' / f'{config}.py')
        replace_sync_bn(cfg._cfg_dict)
        models[name] = init_model(cfg, str(next(folder.glob('iter_*.pth'))), device='cpu')
    images = sorted((DATA / 'cityscapes/leftImg8bit/val/demo').glob('*.png'))[:PICTURE_ROWS]
    rows = []
    for image in images:
        label = Path(str(image).replace('leftImg8bit', 'gtFine').replace('_gtFine.png', '_gtFine_labelTrainIds.png'))
        panels = {'input': np.asarray(Image.open(image)), 'truth': np.asarray(Image.open(label))}
        for name, model in models.items():
            panels[name] = inference_model(model, str(image)).pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        rows.append(panels)
    draw_segmentations(rows, DATASETS.get('CityscapesDataset').METAINFO['palette'], path, background=BACKGROUND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    args = parser.parse_args()
    os.chdir(ROOT)
    started = time.perf_counter()
    if not (DATA / 'cityscapes').exists():
        write_demo_data(DATA)
    print('training: the teacher first, then the students (logs beside the checkpoints)', flush=True)
    results = run_all(args.work_dir, args.seeds)
    text = table(results)
    (args.work_dir / 'table.md').write_text(text + '\n')
    draw(args.work_dir, args.seeds[0], args.work_dir / 'picture.png')
    print(f'\n{text}\n\npicture: {args.work_dir / "picture.png"}; took {(time.perf_counter() - started) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
