"""Writes the demo data: scenes of scikit-learn's handwritten digits as Cityscapes, COCO and a folder per class.

usage: python tools/dataset_converters/demo.py [--out data/demo]
"""
import argparse
from pathlib import Path

from mmkd_plugin.datasets.demo_scenes import write_demo_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('data/demo'))
    parser.add_argument('--train', type=int, default=600, help='number of training scenes')
    parser.add_argument('--val', type=int, default=150, help='number of validation scenes')
    args = parser.parse_args()
    write_demo_data(args.out, args.train, args.val)
    print(f'{args.out}: {args.train} training and {args.val} validation scenes')


if __name__ == '__main__':
    main()
