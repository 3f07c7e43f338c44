"""An image with what a network, or the truth, says about it: segmentation, depth, boxes and masks, or a class."""
import base64
import colorsys
import io
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from ..utils.errors import shortened
from .pictures import colourise

WIDEST, NARROWEST = 480, 120
"""Pixels of a picture's longer side: larger ones are made smaller, those of toy data larger."""
BLEND = .6
"""How much of a pixel is the colour of its class."""
LEAST_SCORE, MOST_BOXES = .3, 20
IGNORED = 255
Palette = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Said:
    """What is said about one image, by a network or by its annotation.

    Attributes:
        labels: (H, W) of class indices, 255 where there is none.
        depth: (H, W), 0 where it is not known.
        boxes: (N, 4), x1, y1, x2, y2 in pixels of the image.
        masks: (N, H, W) of bool.
        classes: (N,) indices.
        scores: (N,), those of boxes; None for an annotation.
        answer: the class of the image.
        confidence: its score.
    """
    labels: Optional[np.ndarray] = None
    depth: Optional[np.ndarray] = None
    boxes: Optional[np.ndarray] = None
    masks: Optional[np.ndarray] = None
    classes: Sequence[int] = ()
    scores: Optional[Sequence[float]] = None
    answer: Optional[int] = None
    confidence: Optional[float] = None


@dataclass(frozen=True)
class Panel:
    """A picture in a page.

    Attributes:
        caption: above it.
        source: the picture as a ``data:`` address; '' where there is only text.
        text: below it.
    """
    caption: str
    source: str = ''
    text: str = ''


def said_by_annotation(sample: Any, scale: Tuple[float, float] = (1., 1.)) -> Said:
    """What the annotation of a data sample says.

    Args:
        sample: a data sample of mmsegmentation, mmdetection or mmpretrain.
        scale: by how much boxes are larger than in the image, in width and in height.
    """
    return _said(sample, 'gt', scale)


def said_by_network(sample: Any) -> Said:
    """What a network has written into a data sample."""
    return _said(sample, 'pred', (1., 1.))


def _said(sample: Any, kind: str, scale: Tuple[float, float]) -> Said:
    found: Dict[str, Any] = {}
    labels, depth = (getattr(getattr(sample, f'{kind}_{name}', None), 'data', None) for name in ('sem_seg', 'depth_map'))
    if labels is not None:
        found['labels'] = _array(labels).squeeze().astype(np.int64)
    if depth is not None:
        found['depth'] = _array(depth).squeeze().astype(np.float64)
    instances = getattr(sample, f'{kind}_instances', None)
    if instances is not None and 'bboxes' in instances:
        found.update(_instances(instances, scale))
    answer = getattr(sample, f'{kind}_label', None)
    if answer is not None and len(answer) == 1:
        found['answer'] = int(answer)
        scores = getattr(sample, f'{kind}_score', None)
        if scores is not None and kind == 'pred':
            found['confidence'] = float(scores[found['answer']])
    return Said(**found)


def _instances(instances: Any, scale: Tuple[float, float]) -> Dict[str, Any]:
    boxes = _array(getattr(instances.bboxes, 'tensor', instances.bboxes)).reshape(-1, 4) / np.array([*scale, *scale])
    classes, scores = _array(instances.labels), _array(instances.scores) if 'scores' in instances else None
    masks = None
    if 'masks' in instances:
        masks = instances.masks.to_ndarray() if hasattr(instances.masks, 'to_ndarray') else _array(instances.masks)
        masks = masks.astype(bool)
    if scores is not None:
        chosen = np.argsort(-scores)[:MOST_BOXES]
        chosen = chosen[scores[chosen] >= LEAST_SCORE]
        boxes, classes, scores = boxes[chosen], classes[chosen], scores[chosen]
        masks = None if masks is None else masks[chosen]
    return dict(boxes=boxes, classes=[int(label) for label in classes], masks=masks,
                scores=None if scores is None else [float(score) for score in scores])


def _array(value: Any) -> np.ndarray:
    found: np.ndarray = value.detach().cpu().numpy() if hasattr(value, 'detach') else np.asarray(value)
    return found


@dataclass(frozen=True)
class Painter:
    """Paints what is said onto images.

    Args:
        names: what the classes are called; those beyond are numbers.
        palette: RGB of each class.
    """
    names: Sequence[str] = ()
    palette: Palette = ()

    def name(self, number: int) -> str:
        """What a class is called."""
        return shortened(str(self.names[number]), 40) if 0 <= number < len(self.names) else f'class {number}'

    def colour(self, number: int) -> Tuple[int, int, int]:
        """RGB of a class."""
        if 0 <= number < len(self.palette):
            red, green, blue = (int(value) for value in self.palette[number])
            return red, green, blue
        made = colorsys.hsv_to_rgb(number * .618 % 1, .65, .9)
        return int(255 * made[0]), int(255 * made[1]), int(255 * made[2])

    def panel(self, caption: str, image: np.ndarray, said: Said, truth: Said) -> Panel:
        """What is said, on an image (H, W, 3) of uint8 in RGB.

        Args:
            caption: above the picture.
            image: the image.
            said: what is painted.
            truth: what the annotation says, for the range of depths and for whether a class is right.
        """
        if said.labels is not None:
            return Panel(caption, picture(self._segmented(image, said.labels)))
        if said.depth is not None:
            return Panel(caption, picture(_depth_colours(said.depth, truth.depth)))
        if said.boxes is not None:
            return Panel(caption, picture(self._boxed(image, said)), '' if len(said.boxes) else 'nothing found')
        if said.answer is not None:
            sure = '' if said.confidence is None else f' ({said.confidence:.0%})'
            wrong = truth.answer is not None and said.answer != truth.answer
            return Panel(caption, text=f'{"✗ " if wrong else ""}{self.name(said.answer)}{sure}')
        return Panel(caption, text='nothing that can be shown')

    def present(self, said: Sequence[Said]) -> List[int]:
        """The classes that something is said about, in order."""
        found = {int(number) for each in said for number in each.classes}
        found |= {int(number) for each in said if each.labels is not None for number in np.unique(each.labels)}
        return sorted(number for number in found if number != IGNORED)

    def _segmented(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        image = _resized(image, labels.shape)
        colours = colourise(np.clip(labels, 0, IGNORED), [self.colour(number) for number in range(IGNORED)])
        mixed = np.where((labels == IGNORED)[..., None], colours, (1 - BLEND) * image + BLEND * colours)
        painted: np.ndarray = mixed.astype(np.uint8)
        return painted

    def _boxed(self, image: np.ndarray, said: Said) -> np.ndarray:
        assert said.boxes is not None, 'there are some, or none in a list'
        painted = image.astype(np.float64)
        for mask, number in zip(said.masks if said.masks is not None else (), said.classes):
            if mask.shape == painted.shape[:2]:
                painted[mask] = .5 * painted[mask] + .5 * np.array(self.colour(number))
        canvas = Image.fromarray(painted.astype(np.uint8))
        factor = _factor(canvas.size)
        canvas = canvas.resize((round(canvas.width * factor), round(canvas.height * factor)))
        pen = ImageDraw.Draw(canvas)
        for place, (box, number) in enumerate(zip(said.boxes * factor, said.classes)):
            left, top, right, bottom = box.tolist()
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=self.colour(number), width=2)
            score = '' if said.scores is None else f' {said.scores[place]:.2f}'
            text = f'{self.name(number)}{score}'.encode('latin-1', 'replace').decode('latin-1')  # what every font has
            corner = (left + 2, max(0., top - 11))
            pen.rectangle(pen.textbbox(corner, text), fill=self.colour(number))
            pen.text(corner, text, fill='black' if sum(self.colour(number)) > 380 else 'white')
        return np.asarray(canvas)


def _depth_colours(depth: np.ndarray, truth: Optional[np.ndarray]) -> np.ndarray:
    """Near is dark, far is light, on the range of the annotation; what is not known is grey."""
    import matplotlib
    known = truth[truth > 0] if truth is not None and (truth > 0).any() else depth
    low, high = np.percentile(known, [1, 99])
    coloured = matplotlib.colormaps['viridis'](np.clip((depth - low) / max(high - low, 1e-9), 0, 1))[..., :3]
    coloured[depth <= 0] = .5
    painted: np.ndarray = (255 * coloured).astype(np.uint8)
    return painted


def _factor(size: Tuple[int, int]) -> float:
    longest = max(size)
    return min(1., WIDEST / longest) if longest >= NARROWEST else float(-(-NARROWEST // longest))


def _resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0])))


def picture(image: np.ndarray) -> str:
    """An image (H, W, 3) of uint8 in RGB as a ``data:`` address, of a size that fits a page.

    Args:
        image: the image.
    """
    made = Image.fromarray(image)
    factor = _factor(made.size)
    if factor != 1:
        way = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
        made = made.resize((max(1, round(made.width * factor)), max(1, round(made.height * factor))), way)
    stream = io.BytesIO()
    made.save(stream, 'JPEG', quality=85)
    return f'data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}'
