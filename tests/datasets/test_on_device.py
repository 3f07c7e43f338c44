"""Images on the device: the crops and flips are mmpretrain's, drawn from the run's seed and the batch, read once."""
import itertools

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner
from PIL import Image

from mmkd_plugin.datasets.on_device import crops
from mmkd_plugin.utils.errors import DistillationError

PADDING, HEIGHT, WIDTH = 2, 6, 5


@pytest.fixture
def folder(tmp_path, mmpretrain_scope):
    """A data set of 8 images of two classes, all pixels different."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, HEIGHT, WIDTH, 3), np.uint8)
    for number, image in enumerate(pixels):
        path = tmp_path / f'class{number % 2}' / f'{number}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[dict(type='LoadImageFromFile')])


def on_device(folder, **options):
    return DATASETS.build(dict(type='mmkd.ImagesOnDevice', dataset=folder, device='cpu', **options))


def inputs(dataset, indices=range(8)):
    return torch.stack([item['inputs'] for item in dataset.__getitems__(list(indices))])


def test_crops_are_those_of_mmpretrains_transforms(mmpretrain_scope):
    cases = list(itertools.product(range(2 * PADDING + 1), range(2 * PADDING + 1), (False, True)))
    images = torch.randint(0, 256, (3, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    which = torch.arange(len(cases)) % 3
    top, left, mirrored = (torch.tensor(column) for column in zip(*cases))
    padded = torch.nn.functional.pad(images, (PADDING,) * 4)
    found = crops(padded, which, top, left, mirrored, HEIGHT, WIDTH)
    crop = TRANSFORMS.build(dict(type='RandomCrop', crop_size=(HEIGHT, WIDTH), padding=PADDING))
    for number, (y, x, flip) in enumerate(cases):
        crop.rand_crop_params = lambda image, y=y, x=x: (y, x, HEIGHT, WIDTH)
        flipped = TRANSFORMS.build(dict(type='RandomFlip', prob=float(flip), direction='horizontal'))
        wanted = flipped(crop(dict(img=images[which[number]].permute(1, 2, 0).numpy())))['img']
        assert np.array_equal(found[number].permute(1, 2, 0).numpy(), wanted), (y, x, flip)


def test_every_crop_is_equally_frequent_and_flips_are_as_probable_as_said(folder):
    dataset = on_device(folder, padding=PADDING, flip=0.25)
    image = inputs(on_device(folder))[0]
    padded = torch.nn.functional.pad(image, (PADDING,) * 4)
    known = {}
    for y, x in itertools.product(range(2 * PADDING + 1), repeat=2):
        crop = padded[:, y:y + HEIGHT, x:x + WIDTH]
        known[crop.numpy().tobytes()] = (y, x, False)
        known[crop.flip(2).numpy().tobytes()] = (y, x, True)
    counts = dict.fromkeys(known.values(), 0)
    for epoch in range(20):
        MessageHub.get_current_instance().update_info('epoch', epoch)
        for one in inputs(dataset, [0] * 500):
            counts[known[one.contiguous().numpy().tobytes()]] += 1
    expected = {case: 10000 / 25 * (0.25 if case[2] else 0.75) for case in counts}
    # Chi square with 49 degrees of freedom: over 85.4 in one of a thousand.
    assert sum((counts[case] - expected[case]) ** 2 / expected[case] for case in counts) < 85.4


def test_a_batch_is_a_function_of_seed_epoch_and_images_and_draws_nothing_from_the_run(folder):
    dataset = on_device(folder, padding=PADDING, flip=0.5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = inputs(dataset)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)  # elsewhere in the run
    assert torch.equal(inputs(dataset), first)
    assert torch.equal(inputs(on_device(folder, padding=PADDING, flip=0.5)), first)
    assert not torch.equal(inputs(dataset, reversed(range(8))).flip(0), first)
    MessageHub.get_current_instance().update_info('epoch', 1)
    assert not torch.equal(inputs(dataset), first)
    MessageHub.get_current_instance().update_info('epoch', 0)
    torch.manual_seed(4)
    assert not torch.equal(inputs(dataset), first)


def test_without_padding_and_flip_items_are_the_data_sets_also_of_a_part_of_it(folder):
    packed = [*folder['pipeline'], dict(type='PackInputs')]
    plain = DATASETS.build({**folder, 'pipeline': packed})
    dataset = on_device(folder)
    assert len(dataset) == len(plain) == 8
    assert dataset.metainfo['classes'] == ('class0', 'class1')
    for index in range(8):
        assert torch.equal(dataset[index]['inputs'], plain[index]['inputs'])
        assert torch.equal(dataset[index]['data_samples'].gt_label, plain[index]['data_samples'].gt_label)
    parts = [on_device(dict(type='mmkd.SplitDataset', part=part, dataset=folder, ratio=0.75)) for part in ('train', 'val')]
    assert [len(part) for part in parts] == [6, 2]


def test_a_loader_gives_batches_that_the_preprocessor_takes(folder):
    loader = Runner.build_dataloader(dict(
        dataset=dict(type='mmkd.ImagesOnDevice', dataset=folder, padding=PADDING, flip=0.5), batch_size=4, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate')), seed=0)
    batch = next(iter(loader))
    assert batch['inputs'].shape == (4, 3, HEIGHT, WIDTH)
    assert [type(sample).__name__ for sample in batch['data_samples']] == ['DataSample'] * 4


def test_what_does_not_fit_is_named(folder, tmp_path):
    crop = dict(type='RandomCrop', crop_size=4)
    with pytest.raises(DistillationError, match=r"dataset.pipeline: \['RandomCrop'\] would draw random numbers once"):
        on_device({**folder, 'pipeline': [*folder['pipeline'], crop]})
    with pytest.raises(DistillationError, match="Did you mean 'padding'"):
        on_device(folder, pading=1)
    loader = torch.utils.data.DataLoader(on_device(folder), num_workers=1)
    with pytest.raises(DistillationError, match='(?s)num_workers.*Accepted: 0'):
        next(iter(loader))
    Image.new('RGB', (9, 9)).save(tmp_path / 'class0/9.png')
    with pytest.raises(DistillationError, match='ImagesOnDevice.dataset: .* are the shapes of its images'):
        on_device(folder)[0]
