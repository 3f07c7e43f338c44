"""Converts CamVid (11 classes, SegNet's split) to the folder layout of Cityscapes.

usage: python tools/dataset_converters/camvid.py SOURCE [--out data/camvid]

SOURCE holds images/{train,val,test}/X.jpg (or .png) and labels/{train,val,test}/X.png with class indices 0 to 10 and 11
for unlabelled. The result is leftImg8bit/{split}/X_leftImg8bit.png and gtFine/{split}/X_gtFine_labelTrainIds.png, with
255 for unlabelled.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = ('train', 'val', 'test')
UNLABELLED, IGNORED = 11, 255


def convert(source: Path, out: Path) -> int:
    """Converts all splits; returns the number of images."""
    images = 0
    for split in SPLITS:
        image_folder, label_folder = out / 'leftImg8bit' / split, out / 'gtFine' / split
        image_folder.mkdir(parents=True, exist_ok=True)
        label_folder.mkdir(parents=True, exist_ok=True)
        for path in sorted((source / 'images' / split).iterdir()):
            label_path = source / 'labels' / split / f'{path.stem}.png'
            if not label_path.is_file():
                raise SystemExit(f'{label_path} is missing: every image in {path.parent} needs a label of its name')
            labels = np.asarray(Image.open(label_path)).copy()
            labels[labels >= UNLABELLED] = IGNORED
            Image.open(path).convert('RGB').save(image_folder / f'{path.stem}_leftImg8bit.png')
            Image.fromarray(labels).save(label_folder / f'{path.stem}_gtFine_labelTrainIds.png')
            images += 1
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path)
    parser.add_argument('--out', type=Path, default=Path('data/camvid'))
    args = parser.parse_args()
    if not (args.source / 'images').is_dir():
        parser.error(f'{args.source} has no folder images/')
    print(f'{args.out}: {convert(args.source, args.out)} images')


if __name__ == '__main__':
    main()
