"""docs/options.md is what the code checks."""
import subprocess
import sys
from pathlib import Path

from mmkd_plugin.registry import HOOKS, MODELS
from mmkd_plugin.report.reference import reference

PAGE = Path(__file__).resolve().parents[2] / 'docs/options.md'


def test_the_page_of_options_is_that_of_the_code():
    # In a process of its own, as a reader would call it: other tests register things of their own.
    made = subprocess.run([sys.executable, '-m', 'mmkd_plugin.report.reference'], capture_output=True, text=True, check=True)
    # OneDL's packages print before it what they do without.
    begins = made.stdout.index('# Options\n')
    assert PAGE.read_text() == made.stdout[begins:], 'python -m mmkd_plugin.report.reference > docs/options.md'


def test_every_distiller_and_hook_of_the_package_is_on_it():
    text = reference()
    assert all(f'## `mmkd.{name}`' in text for name in MODELS.module_dict if name.endswith('Distiller')
               and MODELS.get(name).__module__.startswith('mmkd_plugin.'))
    assert all(f'## `mmkd.{name}`' in text for name in HOOKS.module_dict)
