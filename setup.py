"""Packaging of mmkd_plugin. Configs and tools go to ``mmkd_plugin/.mim``, where OpenMMLab's tools look for them."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
TASKS = {'cls': ['mmpretrain>=1.2'], 'seg': ['mmsegmentation>=1.2', 'ftfy', 'regex'], 'det': ['mmdet>=3.3']}

DEMO = ['scikit-learn', 'matplotlib', 'pillow', 'pycocotools']


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
                            ignore=shutil.ignore_patterns('__pycache__', 'setup_env.sh', 'run_demo.py'))


setup(
    name='mmkd-plugin',
    version=re.search(r"'(.+)'", (ROOT / 'mmkd_plugin' / 'version.py').read_text())[1],
    description='Knowledge distillation for OpenMMLab configs, by inheritance: Matching Guided Distillation (MGD)',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.9',
    packages=find_packages(include=['mmkd_plugin', 'mmkd_plugin.*']),
    cmdclass={'build_py': BuildWithConfigs},
    install_requires=['torch>=2.6', 'mmengine>=0.10.7', 'mmcv>=2.0', 'scipy', 'numpy'],
    extras_require={
        **TASKS,
        'all': [package for packages in TASKS.values() for package in packages],
        'demo': DEMO,
        'tests': ['pytest', 'ruff', *DEMO],
    },
)
