"""The stream of validation batches: every batch a function of its number, whoever loads it and whenever."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch.utils.data import Dataset
from zoo import loader

from mmkd_plugin.search.stream import BatchStream
from mmkd_plugin.search.validation import validation_part
from mmkd_plugin.utils.errors import DistillationError


@pytest.fixture
def noisy(mmpretrain_scope):
    """Batches of 2 of 6 items, shuffled, each with a random transform."""
    cfg = loader('mmpretrain', 6)
    cfg['dataset']['noise'] = True
    return cfg


def values(cfg, number, **options):
    stream = BatchStream(cfg, **{'seed': 0, 'key': 'loader', **options})
    return [([sample.img_id for sample in batch['data_samples']], [int(image.sum()) for image in batch['inputs']])
            for batch in (next(stream) for _ in range(number))]


def test_a_pass_has_every_image_once_and_the_next_one_another_order(noisy):
    order = [number for ids, _ in values(noisy, 6) for number in ids]
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert order[:6] != order[6:]


def test_transforms_are_drawn_anew_in_every_pass(noisy):
    by_image = {}
    for ids, sums in values(noisy, 6):
        for number, value in zip(ids, sums):
            by_image.setdefault(number, []).append(value)
    assert all(first != second for first, second in by_image.values())


def test_a_batch_is_a_function_of_its_number(noisy):
    assert values(noisy, 3, start=5) == values(noisy, 8)[5:]


def test_of_an_endless_sampler_too(noisy):
    noisy['sampler'] = dict(type='InfiniteSampler', _scope_='mmengine')
    assert values(noisy, 3, start=5) == values(noisy, 8)[5:]


def test_workers_make_no_difference(noisy):
    alone = values(noisy, 4)
    assert values({**noisy, 'num_workers': 2}, 4) == alone


def test_nothing_is_drawn_from_the_runs_generators(noisy):
    before = torch.get_rng_state()
    values(noisy, 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_item_before_the_start_is_loaded(mmpretrain_scope):
    loaded = []

    @DATASETS.register_module(name='Watched', force=True)
    class Watched(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            loaded.append(index)
            return dict(inputs=torch.zeros(1), data_samples=index)

    cfg = {**loader('mmpretrain'), 'dataset': dict(type='Watched'), 'batch_size': 2}
    next(BatchStream(cfg, 0, 'loader', start=7))
    assert len(loaded) == 2


def test_a_data_set_without_a_whole_batch_is_refused(noisy):
    with pytest.raises(DistillationError, match='loader: the data set has no whole batch'):
        values({**noisy, 'batch_size': 7}, 1)
    assert len(values({**noisy, 'batch_size': 7, 'drop_last': False}, 1)[0][0]) == 6


def test_the_other_part_of_a_split_is_what_a_search_validates_on():
    inner = dict(type='CustomDataset', data_root='train')
    split = dict(type='mmkd.SplitDataset', part='train', ratio=.7, dataset=inner)
    cfg = Config(dict(train_dataloader=dict(batch_size=8, dataset=dict(type='RepeatDataset', times=3, dataset=split))))
    part = validation_part(cfg.train_dataloader, 'hook.dataloader')
    assert part == dict(batch_size=8, dataset=dict(
        type='RepeatDataset', times=3, dataset=dict(type='mmkd.SplitDataset', part='val', ratio=.7, dataset=inner)))
    assert cfg.train_dataloader.dataset.dataset.part == 'train'


def concatenated(*datasets):
    return dict(dataset=dict(type='ConcatDataset', datasets=list(datasets)))


def test_without_a_split_or_a_loader_there_is_no_validation_data():
    with pytest.raises(DistillationError, match="hook.dataloader: .* data that training does not see. Accepted: a loader's"):
        validation_part(dict(dataset=dict(type='CustomDataset')), 'hook.dataloader')
    split = dict(type='mmkd.SplitDataset', part='train', dataset=dict(type='CustomDataset'))
    with pytest.raises(DistillationError, match='data that training does not see'):
        validation_part(concatenated(split, dict(type='CustomDataset')), 'hook.dataloader')
    parts = validation_part(concatenated(split, split), 'hook.dataloader')
    assert [part['part'] for part in parts['dataset']['datasets']] == ['val', 'val']
