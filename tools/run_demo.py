"""The demo: MGD on embedded data, with `tools/train.py` and shipped configs only.

Trains a teacher, then the student alone and the student with MGD, several seeds each, on equal data and schedule;
evaluates them on held-out scenes, prints a table and writes a picture. What is finished is not trained again.

usage: python tools/run_demo.py [--seeds 0 1 2] [--work-dir work_dirs/demo]
"""
import argparse
import os
import time
from pathlib import Path

import numpy as np

from mmkd_plugin.datasets.demo_scenes import BACKGROUND, write_demo_data
from mmkd_plugin.report.accuracy import Row, Table, TableRun, last_checkpoint
from mmkd_plugin.report.pictures import draw_segmentations
from mmkd_plugin.report.tables import markdown

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/demo')
PICTURE_ROWS = 4
STUDENT = 'configs/demo/pspnet_r18w8-d8_demo-64x128.py'


def demo_table(seeds) -> Table:
    """Teacher once, students for every seed. The held-out scenes are the validation split."""
    return Table(metric='mIoU', split='val', seeds=seeds, rows=[
        Row('teacher', 'configs/demo/pspnet_r18w32-d8_demo-64x128.py', seeds=[0]),
        Row('student alone', STUDENT),
        Row('student with MGD', 'configs/demo/mgd-amp_pspnet_r18w32-r18w8-d8_demo-64x128.py',
            {'model.teacher.checkpoint': '{teacher}'})])


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
        cfg = Config.fromfile(STUDENT if 'mgd' in row.config else row.config)
        replace_sync_bn(cfg._cfg_dict)
        checkpoint = last_checkpoint(run.folder(row, row.seeds[0]))
        models[row.name] = init_model(cfg, str(checkpoint), device='cpu')
    rows = []
    for image in sorted((data / 'cityscapes/leftImg8bit/val/demo').glob('*.png'))[:PICTURE_ROWS]:
        label = data / 'cityscapes/gtFine/val/demo' / image.name.replace('leftImg8bit', 'gtFine_labelTrainIds')
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
    print('training the teacher, then the students; logs are beside the checkpoints', flush=True)
    run = TableRun(demo_table(args.seeds), args.work_dir, args.work_dir / 'results.json', jobs=os.cpu_count() or 1)
    run.run()
    text = markdown(run.table, run.results)
    (args.work_dir / 'table.md').write_text(text + '\n')
    draw(run, DATA, args.work_dir / 'picture.png')
    minutes = (time.perf_counter() - started) / 60
    print(f'\n{text}\n\npicture: {args.work_dir / "picture.png"}; took {minutes:.1f} minutes')


if __name__ == '__main__':
    main()
