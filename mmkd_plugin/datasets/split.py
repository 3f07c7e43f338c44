"""``mmkd.SplitDataset``: a part of a training set, for searches that need validation data of their own."""
import hashlib
from dataclasses import dataclass
from typing import Any, Dict, List, Set

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from ..registry import DATASETS
from ..utils import options
from ..utils.errors import DistillationError, building, under
from ..utils.options import Choice, Kind, Number, option

PARTS = ('train', 'val')


class AnyDataset(Kind):
    """A data set, or the config of one."""
    accepted = "a data set's config"

    def fits(self, value: Any) -> bool:
        return isinstance(value, Dataset) or (isinstance(value, dict) and 'type' in value)


@DATASETS.register_module()
class SplitDataset(Dataset[Any]):
    """The training or the validation part of a data set: disjoint, random, the same in every process and every run.

    Which part an image belongs to depends on its identity (its path, with ``data_root``, so a search should be resumed with
    the data where they were; its position where it has none), the seed and the ratio, not on the pipeline or on filtering.
    So the two parts stay disjoint when one is built with training transforms and filters and the other in test mode.

    Args:
        given: see ``Options``.

    Raises:
        DistillationError: for options that do not fit, another kind of data set, a ratio that leaves a part empty.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(options.Options):
        """The options of the data set."""
        dataset: Any = option(AnyDataset(), doc="config of a `BaseDataset` (all of mmseg's, mmdet's and mmpretrain's are). "
                              'Wrappers such as `RepeatDataset` go around this one, not into it')
        part: str = option(Choice(PARTS), doc='which of the two')
        ratio: float = option(Number(above=0, below=1), 0.8, 'fraction of the images in the training part')
        seed: int = option(Number(whole=True), 0, 'of the split')

    def __init__(self, **given: Any):
        with under('SplitDataset'):
            read = self.Options.read(given)
        dataset = read.dataset
        with building('SplitDataset.dataset'):
            self.dataset = MMENGINE_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not isinstance(self.dataset, BaseDataset):
            raise DistillationError(f'{type(self.dataset).__name__} is not a BaseDataset', path='SplitDataset.dataset',
                                    hint='Put wrappers around SplitDataset.')
        self.part, self.ratio, self.seed = read.part, read.ratio, read.seed
        self._split = False
        if self.dataset._fully_initialized:
            self.full_init()

    def full_init(self) -> None:
        """Loads the annotations and keeps this part of them. Called by the runner."""
        if self._split:
            return
        everything = self.dataset.load_data_list()
        mine = _members(_identities(everything), self.part, self.ratio, self.seed)
        self.dataset.full_init()
        kept = [self.dataset.get_data_info(index) for index in range(len(self.dataset))]
        if len(kept) != len(everything) and not all('img_path' in info for info in everything):
            raise DistillationError(f'{type(self.dataset).__name__} filters images that have no path, so they cannot be '
                                    'told apart', path='SplitDataset.dataset', hint='Set its filter_cfg to None.')
        indices = [index for index, identity in enumerate(_identities(kept)) if identity in mine]
        if not indices:
            raise DistillationError(f'the {self.part} part of {len(everything)} images at ratio {self.ratio} is empty',
                                    path='SplitDataset.ratio', given=self.ratio)
        # In place, so that a transform that asks for another random image (Mosaic, a failed crop) gets one of this part.
        self.dataset.get_subset_(indices)
        self._split = True

    @property
    def metainfo(self) -> Dict[str, Any]:
        """Classes, palette and the like: those of the whole data set."""
        metainfo: Dict[str, Any] = self.dataset.metainfo
        return metainfo

    def get_data_info(self, index: int) -> Dict[str, Any]:
        """The annotations of an image of this part."""
        self.full_init()
        info: Dict[str, Any] = self.dataset.get_data_info(index)
        return info

    def get_cat_ids(self, index: int) -> List[int]:
        """The categories in an image of this part, for wrappers that balance classes."""
        self.full_init()
        categories: List[int] = self.dataset.get_cat_ids(index)
        return categories

    def __len__(self) -> int:
        self.full_init()
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        self.full_init()
        return self.dataset[index]


def _identities(infos: List[Dict[str, Any]]) -> List[str]:
    return [str(info.get('img_path', position)) for position, info in enumerate(infos)]


def _members(identities: List[str], part: str, ratio: float, seed: int) -> Set[str]:
    """The identities of a part: the first ``ratio`` of all, in the order of their hashes."""
    def rank(identity: str) -> bytes:
        return hashlib.sha256(f'{seed}:{identity}'.encode()).digest()

    ordered = sorted(set(identities), key=rank)
    cut = round(ratio * len(ordered))
    return set(ordered[:cut] if part == 'train' else ordered[cut:])
