"""The CIFAR-100 converter, on a file in the format of the binary version."""
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def test_images_land_in_the_folder_of_their_class(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    records = np.concatenate([np.array([[9, 1], [9, 0], [9, 2]], np.uint8), images.reshape(3, -1)], axis=1)
    (tmp_path / 'fine_label_names.txt').write_text('apple\naquarium_fish\nbaby\n')
    for split in ('train', 'test'):
        records.tofile(tmp_path / f'{split}.bin')
    done = subprocess.run([sys.executable, str(ROOT / 'tools/dataset_converters/cifar100.py'), str(tmp_path), '--classes',
                           '2', '--out', str(tmp_path / 'out')], capture_output=True, text=True, check=True)
    assert '4 images' in done.stdout
    found = {str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out').rglob('*.png')}
    assert found == {f'{split}/{name}/000.png' for split in ('train', 'test') for name in ('00_apple', '01_aquarium_fish')}
    fish = np.asarray(Image.open(tmp_path / 'out/train/01_aquarium_fish/000.png'))
    assert np.array_equal(fish, images[0].transpose(1, 2, 0))
