"""What pyproject.toml cannot say: configs, tools and index go to ``mmkd_plugin/.mim``, where OpenMMLab's tools look."""
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Copies configs and tools into the built package; the source tree stays as it is."""

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            return  # a source checkout has them beside the package
        target = Path(self.build_lib) / 'mmkd_plugin' / '.mim'
        for folder in ('configs', 'tools'):
            # What only makes sense in a checkout stays there.
            shutil.copytree(ROOT / folder, target / folder, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns('__pycache__', 'setup_env.sh', 'run_demo.py', 'run_matrix.py'))
        shutil.copy(ROOT / 'model-index.yml', target)


setup(cmdclass={'build_py': BuildWithConfigs})
