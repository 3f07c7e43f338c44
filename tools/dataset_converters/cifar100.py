"""Writes CIFAR-100 as a folder of PNG files per class, all classes or the first few.

usage: python tools/dataset_converters/cifar100.py SOURCE [--classes 20] [--out FOLDER]

SOURCE is the unpacked binary version of CIFAR-100 (cifar-100-binary.tar.gz): train.bin, test.bin, fine_label_names.txt.
(The Python version is a pickle, which could execute anything.) The result is {train,test}/CC_name/NNN.png.
"""
import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

RECORD = 2 + 3 * 32 * 32  # coarse label, fine label, the image as three planes


def convert(source: Path, out: Path, classes: int) -> int:
    """Converts both splits; returns the number of images."""
    names = (source / 'fine_label_names.txt').read_text().split()
    images = 0
    for split in ('train', 'test'):
        records = np.fromfile(source / f'{split}.bin', dtype=np.uint8)
        if not len(records) or len(records) % RECORD:
            raise SystemExit(f'{source / split}.bin has {len(records)} bytes, which are not records of {RECORD}')
        written = Counter()
        for record in records.reshape(-1, RECORD):
            label = int(record[1])
            if label >= classes:
                continue
            folder = out / split / f'{label:02d}_{names[label]}'
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(record[2:].reshape(3, 32, 32).transpose(1, 2, 0)).save(folder / f'{written[label]:03d}.png')
            written[label] += 1
        images += written.total()
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path)
    parser.add_argument('--classes', type=int, default=20, help='how many, from the first; 100 for all')
    parser.add_argument('--out', type=Path, help='by default data/cifar100_<classes>')
    args = parser.parse_args()
    args.out = args.out or Path(f'data/cifar100_{args.classes}')
    if args.out.exists() and any(args.out.iterdir()):
        parser.error(f'{args.out} is not empty: classes of an earlier call would count as classes')
    if not (args.source / 'train.bin').is_file():
        parser.error(f'{args.source} has no train.bin')
    print(f'{args.out}: {convert(args.source, args.out, args.classes)} images')


if __name__ == '__main__':
    main()
