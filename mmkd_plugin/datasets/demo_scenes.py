"""Scenes of real handwritten digits on textured backgrounds: demo data that needs no download.

The digits are scikit-learn's (8x8 pixels, 1797 of them). Train and validation scenes are made of disjoint digits.
"""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
from PIL import Image

BACKGROUND = 10
IMAGENET_CLASSES = 1000
SCENE_SIZE = (64, 128)
DIGIT_SIZES = (36, 60)  # smallest and largest side in pixels
DIGITS_PER_SCENE = (3, 5)
VALIDATION_SHARE = 0.3

# A COCO config finds its categories by these names; digit d is category d.
COCO_NAMES = (
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant',
    'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard',
    'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli',
    'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant', 'bed', 'dining table', 'toilet',
    'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink',
    'refrigerator', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')


@dataclass
class Scene:
    """One scene.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8: digits 0 to 9, 10 for the background.
        boxes: for each digit (x, y, width, height) in pixels, around its mask.
        masks: for each digit (H, W) bool.
        digits: the class of each digit.
    """
    image: np.ndarray
    labels: np.ndarray
    boxes: List[Tuple[int, int, int, int]]
    masks: List[np.ndarray]
    digits: List[int]


def split_digits(seed: int = 0) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """scikit-learn's digits as ``{'train': (images, labels), 'val': (images, labels)}``, images (N, 8, 8) in 0..1."""
    from sklearn.datasets import load_digits
    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.images))
    border = int(len(order) * VALIDATION_SHARE)
    return {split: (data.images[chosen] / 16, data.target[chosen])
            for split, chosen in (('train', order[border:]), ('val', order[:border]))}


def make_scene(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Scene:
    """One scene of digits drawn from ``images`` (N, 8, 8) with classes ``labels`` (N,); digits do not overlap."""
    height, width = SCENE_SIZE
    canvas = make_texture(rng)
    scene = Scene(canvas, np.full(SCENE_SIZE, BACKGROUND, np.uint8), [], [], [])
    for _ in range(rng.integers(*DIGITS_PER_SCENE, endpoint=True)):
        chosen = rng.integers(len(images))
        side = int(rng.integers(*DIGIT_SIZES, endpoint=True))
        ink = _enlarge(images[chosen], side)
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        if (scene.labels[top:top + side, left:left + side] != BACKGROUND).any():
            continue
        mask = np.zeros(SCENE_SIZE, bool)
        mask[top:top + side, left:left + side] = ink > 0.4
        _paint(canvas, ink, top, left, rng)
        rows, columns = np.where(mask)
        scene.labels[mask] = labels[chosen]
        scene.boxes.append((int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1))
        scene.masks.append(mask)
        scene.digits.append(int(labels[chosen]))
    return scene


def make_texture(rng: np.random.Generator) -> np.ndarray:
    """A background (H, W, 3) uint8: two waves and noise in random colours."""
    rows, columns = np.mgrid[:SCENE_SIZE[0], :SCENE_SIZE[1]]
    colour = rng.uniform(40, 215, 3)
    canvas = np.broadcast_to(colour, (*SCENE_SIZE, 3)).copy()
    for _ in range(2):
        frequency, angle, phase = rng.uniform(0.1, 0.8), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        wave = np.sin(frequency * (np.cos(angle) * columns + np.sin(angle) * rows) + phase)
        canvas += wave[..., None] * rng.uniform(-15, 15, 3)
    canvas += rng.normal(0, rng.uniform(2, 8), (*SCENE_SIZE, 3))
    texture: np.ndarray = canvas.clip(0, 255).astype(np.uint8)
    return texture


def _enlarge(digit: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray((digit * 255).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float64) / 255


def _paint(canvas: np.ndarray, ink: np.ndarray, top: int, left: int, rng: np.random.Generator) -> None:
    patch = canvas[top:top + len(ink), left:left + len(ink)]
    # How far the colour is from the background decides how hard the scene is.
    shift = rng.uniform(80, 130) * np.sign(127.5 - patch.mean()) + rng.uniform(-25, 25, 3)
    patch[:] = (patch + ink[..., None] * shift).clip(0, 255).astype(np.uint8)


def write_demo_data(out: Path, train: int = 600, val: int = 150, seed: int = 0) -> None:
    """Writes scenes under ``out`` as ``cityscapes/``, ``coco/`` and ``imagenet/`` (a folder per class).

    The same arguments give the same files.

    Args:
        out: the folder, made if it is not there.
        train, val: number of scenes.
        seed: decides which digits are for validation, and what the scenes look like.
    """
    for split, (images, labels) in split_digits(seed).items():
        rng = np.random.default_rng([seed, split == 'val'])
        scenes = [make_scene(images, labels, rng) for _ in range(train if split == 'train' else val)]
        _write_cityscapes(out / 'cityscapes', split, scenes)
        _write_coco(out / 'coco', split, scenes)
        _write_folders(out / 'imagenet', split, scenes)


def _write_cityscapes(root: Path, split: str, scenes: List[Scene]) -> None:
    images, labels = (_folder(root / kind / split / 'demo') for kind in ('leftImg8bit', 'gtFine'))
    for number, scene in enumerate(scenes):
        Image.fromarray(scene.image).save(images / f'demo_{number:06d}_leftImg8bit.png')
        Image.fromarray(scene.labels).save(labels / f'demo_{number:06d}_gtFine_labelTrainIds.png')


def _write_coco(root: Path, split: str, scenes: List[Scene]) -> None:
    from pycocotools import mask as coco_mask
    images, annotations = _folder(root / f'{split}2017'), _folder(root / 'annotations')
    content = dict(images=[], annotations=[], categories=[dict(id=d, name=name) for d, name in enumerate(COCO_NAMES)])
    for number, scene in enumerate(scenes):
        name = f'{number:012d}.png'
        Image.fromarray(scene.image).save(images / name)
        content['images'].append(dict(id=number, file_name=name, height=SCENE_SIZE[0], width=SCENE_SIZE[1]))
        for box, mask, digit in zip(scene.boxes, scene.masks, scene.digits):
            encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            content['annotations'].append(dict(
                id=len(content['annotations']), image_id=number, category_id=digit, bbox=list(box), iscrowd=0,
                area=int(mask.sum()), segmentation=dict(size=list(SCENE_SIZE), counts=encoded['counts'].decode())))
    (annotations / f'instances_{split}2017.json').write_text(json.dumps(content))


def _write_folders(root: Path, split: str, scenes: List[Scene]) -> None:
    # ImageNet configs insist on 1000 folders; digit d is the d-th of them, the others stay empty.
    folders = [_folder(root / split / f'class_{number:03d}') for number in range(IMAGENET_CLASSES)]
    count = 0
    for scene in scenes:
        for (x, y, width, height), digit in zip(scene.boxes, scene.digits):
            folder = folders[digit]
            Image.fromarray(scene.image[y:y + height, x:x + width]).save(folder / f'{count:06d}.png')
            count += 1


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
