"""``mmkd.SplitDataset``: a part of a training set, for searches that need validation data of their own."""
import hashlib
from typing import Any, List

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Dataset

from ..core.errors import DistillationError, check_arguments, check_number
from ..registry import DATASETS

PARTS = ('train', 'val')


@DATASETS.register_module()
class SplitDataset(Dataset):
    """The training or the validation part of a data set: disjoint, random, the same in every process and every run.

    Which part an image belongs to depends on its identity (its path, with ``data_root``, so a search should be resumed with
    the data where they were; its position where it has none), the seed and the ratio, not on the pipeline or on filtering.
    So the two parts stay disjoint when one is built with training transforms and filters and the other in test mode.

    Args:
        dataset: config of a ``BaseDataset`` (all of mmseg's, mmdet's and mmpretrain's are). Wrappers such as
            ``RepeatDataset`` go around this one, not into it.
        part: ``'train'`` or ``'val'``.
        ratio: fraction of the images in the training part, in (0, 1).
        seed: of the split.

    Raises:
        DistillationError: for another kind of data set, an unknown part, a ratio that leaves a part empty.
    """

    def __init__(self, dataset: dict, part: str, ratio: float = 0.8, seed: int = 0, **others):
        check_arguments('SplitDataset', others, SplitDataset)
        if part not in PARTS:
            raise DistillationError(f'SplitDataset.part: {part!r}. Accepted: {", ".join(PARTS)}.')
        check_number('SplitDataset.ratio', ratio, above=0)
        check_number('SplitDataset.seed', seed, whole=True)
        if ratio >= 1:
            raise DistillationError(f'SplitDataset.ratio: {ratio!r}. Accepted: a number between 0 and 1.')
        self.dataset = MMENGINE_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not isinstance(self.dataset, BaseDataset):
            raise DistillationError(f'SplitDataset.dataset: {type(self.dataset).__name__} is not a BaseDataset. Put '
                                    'wrappers around SplitDataset.')
        self.part, self.ratio, self.seed = part, ratio, seed
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
            raise DistillationError(f'SplitDataset.dataset: {type(self.dataset).__name__} filters images that have no path, '
                                    'so they cannot be told apart. Set its filter_cfg to None.')
        indices = [index for index, identity in enumerate(_identities(kept)) if identity in mine]
        if not indices:
            raise DistillationError(f'SplitDataset: the {self.part} part of {len(everything)} images at ratio {self.ratio} '
                                    'is empty.')
        # In place, so that a transform that asks for another random image (Mosaic, a failed crop) gets one of this part.
        self.dataset.get_subset_(indices)
        self._split = True

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def get_data_info(self, index: int) -> dict:
        self.full_init()
        return self.dataset.get_data_info(index)

    def get_cat_ids(self, index: int) -> List[int]:
        self.full_init()
        return self.dataset.get_cat_ids(index)

    def __len__(self) -> int:
        self.full_init()
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        self.full_init()
        return self.dataset[index]


def _identities(infos: List[dict]) -> List[str]:
    return [str(info.get('img_path', position)) for position, info in enumerate(infos)]


def _members(identities: List[str], part: str, ratio: float, seed: int) -> set:
    """The identities of a part: the first ``ratio`` of all, in the order of their hashes."""
    def rank(identity):
        return hashlib.sha256(f'{seed}:{identity}'.encode()).digest()

    ordered = sorted(set(identities), key=rank)
    cut = round(ratio * len(ordered))
    return set(ordered[:cut] if part == 'train' else ordered[cut:])
