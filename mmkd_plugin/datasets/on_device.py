"""``mmkd.ImagesOnDevice``: small images, kept on the device as one tensor; a batch is cropped and mirrored there."""
import zlib
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import TRANSFORMS
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..registry import DATASETS
from ..utils import options
from ..utils.errors import DistillationError, building, under
from ..utils.options import Either, Number, Text, option
from .split import AnyDataset

KEY = 'ImagesOnDevice.dataset'


def crops(images: Tensor, which: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, height: int, width: int) -> Tensor:
    """A crop of each of some images, mirrored or not, in one step.

    Args:
        images: (N, C, H, W).
        which: (B,) int64, the image of each crop.
        top: (B,) int64, its first row.
        left: (B,) int64, its first column.
        mirrored: (B,) bool, whether left and right are exchanged in it.
        height: rows of a crop.
        width: columns of a crop.

    Returns:
        (B, C, height, width), of the type of the images.
    """
    device = images.device
    rows = top[:, None] + torch.arange(height, device=device)
    along = torch.arange(width, device=device)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - along, along)
    channels = torch.arange(images.shape[1], device=device)
    return images[which[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


@DATASETS.register_module()
class ImagesOnDevice(Dataset[Any]):
    """Images of one size, read once and kept on the device; random crops and flips are made there, a batch at once.

    In place of mmpretrain's ``RandomCrop(crop_size=<the images' size>, padding=padding)`` and ``RandomFlip(prob=flip)``,
    with their distribution. What is drawn for a batch is a function of torch's seed, the epoch and the batch's indices: a
    run that is resumed draws what one that was not interrupted does, and nothing is drawn from the run's generators. The
    loader needs ``num_workers=0`` and ``collate_fn=dict(type='default_collate')``. Labels and the rest of an item are read
    once, too, and shared by all epochs.

    Args:
        given: see ``Options``.

    Raises:
        DistillationError: for options that do not fit; for a data set whose pipeline draws random numbers (it would draw
            them once), that is empty, or has images of several shapes; if a loader's worker asks for images.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options of the data set."""
        dataset: Any = option(AnyDataset(), doc="a data set's config, without random transforms. Its items are packed by "
                              "mmpretrain's `PackInputs` unless its pipeline does that")
        padding: int = option(Number(least=0, whole=True), 0, 'pixels of zeros on each side, out of which a crop of the '
                              "image's size is taken at random; 0: none is")
        flip: float = option(Number(least=0, most=1), 0.0, 'probability that left and right are exchanged')
        device: Optional[str] = option(Either(Text('the name of a device, e.g. cuda:0'), (None,)), None,
                                       "None: the run's, a GPU where there is one")

    def __init__(self, **given: Any):
        with under('ImagesOnDevice'):
            self.options = self.Options.read(given)
        dataset = self.options.dataset
        with building(KEY):
            self.dataset = MMENGINE_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        _check_is_not_random(self.dataset)
        self._images: Optional[Tensor] = None
        self._rest: List[Dict[str, Any]] = []

    @property
    def metainfo(self) -> Dict[str, Any]:
        """Classes and the like: those of the data set inside."""
        metainfo: Dict[str, Any] = self.dataset.metainfo
        return metainfo

    def full_init(self) -> None:
        """Reads all images, once. Called by the runner."""
        if self._images is not None:
            return
        pack = TRANSFORMS.build(dict(type='mmpretrain.PackInputs'))
        items = [self.dataset[index] for index in range(len(self.dataset))]
        items = [item if 'inputs' in item else pack(item) for item in items]
        if not items:
            raise DistillationError('is empty', path=KEY)
        shapes = sorted({tuple(item['inputs'].shape) for item in items})
        if len(shapes) > 1:
            raise DistillationError('are the shapes of its images', path=KEY, given=shapes[:3],
                                    accepted='images of one shape')
        images = torch.stack([item.pop('inputs') for item in items])
        padding = self.options.padding
        self._images = F.pad(images, (padding,) * 4).to(self.options.device or get_device())
        self._rest = items

    def __len__(self) -> int:
        return len(self._rest) if self._images is not None else len(self.dataset)

    def __getitem__(self, index: int) -> Dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> List[Dict[str, Any]]:
        """The items of a batch; torch's loader asks for all of it at once. Their ``inputs`` are (C, H, W)."""
        if get_worker_info() is not None:
            raise DistillationError("is for the run's own process: its images are on the device", path='num_workers',
                                    accepted='0, in the loader of an mmkd.ImagesOnDevice')
        self.full_init()
        images, padding = self._images, self.options.padding
        assert images is not None
        which = [int(index) for index in indices]
        position = (torch.initial_seed(), MessageHub.get_current_instance().get_info('epoch', 0), which)
        generator = torch.Generator().manual_seed(zlib.crc32(repr(position).encode()))
        offsets = torch.randint(0, 2 * padding + 1, (2, len(which)), generator=generator)
        mirrored = torch.rand(len(which), generator=generator) < self.options.flip
        # One copy to the device in place of four.
        drawn = torch.cat([torch.tensor([which]), offsets, mirrored[None].long()]).to(images.device)
        height, width = (side - 2 * padding for side in images.shape[-2:])
        batch = crops(images, drawn[0], drawn[1], drawn[2], drawn[3].bool(), height, width)
        return [dict(self._rest[index], inputs=image) for index, image in zip(which, batch.unbind())]


def _check_is_not_random(dataset: Any) -> None:
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    random = [type(transform).__name__ for transform in transforms
              if getattr(transform, '_methods_with_randomness', None)]  # by this mmcv knows them
    if random:
        raise DistillationError('would draw random numbers once, when the images are read', path=f'{KEY}.pipeline',
                                given=random, accepted='a pipeline without; crops and flips are padding and flip')
