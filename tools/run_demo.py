"""The demo: a small student with a trained teacher, on embedded data, with `tools/train.py` and shipped configs only.

The teacher comes with the package. Trains the student alone, with KD, with MGD and with both, on equal data and schedule,
tests all on held-out scenes, prints a table, and writes a picture and a report (one HTML page). What is finished is not
trained again.

usage: python tools/run_demo.py [--seeds 0 1 2] [--work-dir work_dirs/demo]
       python tools/run_demo.py --train-teacher    trains the teacher anew, on ten times as many scenes
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import numpy as np
import torch

from mmkd_plugin.cli.report import report
from mmkd_plugin.datasets.demo_scenes import BACKGROUND, write_demo_data
from mmkd_plugin.report.accuracy import Row, Table, TableRun, last_checkpoint
from mmkd_plugin.report.pictures import draw_segmentations
from mmkd_plugin.report.tables import markdown
from mmkd_plugin.utils.checkpoint_files import open_checkpoint

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/demo')
PICTURE_ROWS = 4
TEACHER, STUDENT = 'configs/demo/fpn_r18w32_demo-64x128.py', 'configs/demo/fpn_r18w16_demo-64x128.py'
WEIGHTS = TEACHER.replace('.py', '.pth')
TEACHER_SCENES = 6000


def demo_table(seeds: List[int]) -> Table:
    """The teacher as it is given, students for every seed. The held-out scenes are the validation split."""
    pair = 'fpn_r18w32-r18w16_demo-64x128.py'
    return Table(metric='mIoU', split='val', seeds=seeds, rows=[
        Row('teacher', TEACHER, seeds=[seeds[0]], checkpoint=WEIGHTS),
        Row('student alone', STUDENT),
        Row('KD', f'configs/demo/cwd_{pair}', label='KD (CWD)'),
        Row('MGD', f'configs/demo/mgd-amp_{pair}'),
        Row('MGD and KD', f'configs/demo/mgd-amp-cwd_{pair}', label='MGD + KD')])


def draw(run: TableRun, data: Path, path: Path) -> None:
    """Writes the picture: input, truth and what each model of its first seed makes of it."""
    from mmengine.config import Config
    from mmseg.apis import inference_model, init_model
    from mmseg.registry import DATASETS
    from PIL import Image

    from mmkd_plugin.utils.launch import replace_sync_bn
    models = {}
    for row in run.table.rows:
        # A distilled checkpoint opens with the plain student's config.
        cfg = Config.fromfile(TEACHER if row.config == TEACHER else STUDENT)
        replace_sync_bn(cfg._cfg_dict)
        models[row.title] = init_model(cfg, str(run.checkpoint(row.name)), device='cpu')
    rows = []
    for image in sorted((data / 'cityscapes/leftImg8bit/val/demo').glob('*.png'))[:PICTURE_ROWS]:
        label = data / 'cityscapes/gtFine/val/demo' / image.name.replace('leftImg8bit', 'gtFine_labelTrainIds')
        panels = {'input': np.asarray(Image.open(image)), 'truth': np.asarray(Image.open(label))}
        for name, model in models.items():
            panels[name] = inference_model(model, str(image)).pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        rows.append(panels)
    draw_segmentations(rows, DATASETS.get('CityscapesDataset').METAINFO['palette'], path, background=BACKGROUND)


def write_page(run: TableRun, path: Path) -> Path:
    """Writes the report of the first seed: every student's training beside the others'."""
    teacher, *students = run.table.rows
    folders = [run.folder(row, row.seeds[0]) for row in students]
    value = run.results[teacher.name][str(teacher.seeds[0])].value
    return report(folders[1:], path, alone=[str(folders[0])], teacher=[str(value)])


def train_teacher(work_dir: Path) -> None:
    """Trains the teacher, and writes its weights, in half precision, where the package finds them."""
    data = work_dir / 'scenes'
    write_demo_data(data, train=TEACHER_SCENES)
    subprocess.run([sys.executable, 'tools/train.py', TEACHER, '--work-dir', work_dir, '--resume', '--cfg-options',
                    *(f'{split}_dataloader.dataset.data_root={data}/cityscapes/' for split in ('train', 'val'))], check=True)
    weights = open_checkpoint(last_checkpoint(work_dir))['state_dict']
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    torch.save(dict(state_dict=halves), WEIGHTS)
    print(f'teacher: {WEIGHTS}, {Path(WEIGHTS).stat().st_size / 1e6:.2f} MB')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--train-teacher', action='store_true', help='make the weights that are shipped')
    args = parser.parse_args()
    os.chdir(ROOT)
    if args.train_teacher:
        train_teacher(args.work_dir / 'teacher')
        return
    started = time.perf_counter()
    if not (DATA / 'cityscapes').exists():
        write_demo_data(DATA)
    print('testing the teacher, then training students; logs are beside the checkpoints', flush=True)
    # Apart from what the demo of 0.1 has left in the same folder, whose rows have the same names.
    cells = args.work_dir / 'cells'
    run = TableRun(demo_table(args.seeds), cells, cells / 'results.json', jobs=os.cpu_count() or 1)
    run.run()
    text = markdown(run.table, run.results)
    (args.work_dir / 'table.md').write_text(text + '\n')
    picture = args.work_dir / 'picture.png'
    draw(run, DATA, picture)
    page = write_page(run, args.work_dir / 'report.html')
    print(f'\n{text}\n\npicture: {picture}\nreport: {page}\ntook {(time.perf_counter() - started) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
