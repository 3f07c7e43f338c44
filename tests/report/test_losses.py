"""docs/losses.md is what the losses say of themselves."""
import re
import subprocess
import sys
from pathlib import Path

from mmkd_plugin.losses import FeatureLoss, LogitsLoss, loss_names

PAGE = Path(__file__).resolve().parents[2] / 'docs/losses.md'


def test_the_page_of_losses_is_that_of_the_code():
    # In a process of its own, as a reader would call it: other tests register things of their own.
    made = subprocess.run([sys.executable, '-m', 'mmkd_plugin.report.losses'], capture_output=True, text=True, check=True)
    # OneDL's packages print before it what they do without.
    begins = made.stdout.index('# Losses\n')
    assert PAGE.read_text() == made.stdout[begins:], 'python -m mmkd_plugin.report.losses > docs/losses.md'


def test_every_loss_of_the_package_is_on_it():
    text = PAGE.read_text()
    assert all(f'### `{short}`: `mmkd.{name}`' in text for family in (FeatureLoss, LogitsLoss)
               for short, name in loss_names(family).items())


def test_every_function_that_is_compared_with_a_reference_is_on_it_with_its_arguments():
    source = (Path(__file__).parents[1] / 'loss_oracles.py').read_text()
    modules = re.search(r'from mmkd_plugin.losses import \((.*?)\)', source, re.DOTALL)[1].replace(',', ' ').split()
    called = set(re.findall(rf'\b({"|".join(modules)})\.([a-z_]\w*)\(', source))
    listed = set(re.findall(r'^\| `(\w+)\.(\w+)\(.*\)` \| \S', PAGE.read_text(), re.MULTILINE))
    assert len(called) > 30
    assert called <= listed | {('cells', 'to_smaller_size')}
    arguments = 'student, teacher, temperature=1.0, valid=None'
    assert f'| `channels.channel_divergence({arguments})` | CWD (Shu et al.' in PAGE.read_text()
