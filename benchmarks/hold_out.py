"""Links a data set with a folder for each class as two parts, to choose settings on training images alone.

usage: python benchmarks/hold_out.py data/cifar100_20/train data/cifar100_20_tuning [--every 5]

Every fifth image of each class, by name, goes to OUT/val, the others to OUT/train. (mmkd.SplitDataset does likewise in a
config; what a table overrides is single keys.)
"""
import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--every', type=int, default=5)
    args = parser.parse_args()
    for folder in sorted(path for path in args.images.iterdir() if path.is_dir()):
        for number, image in enumerate(sorted(folder.iterdir())):
            link = args.out / ('train' if number % args.every else 'val') / folder.name / image.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(image.resolve())


if __name__ == '__main__':
    main()
