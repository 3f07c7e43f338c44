"""The console script ``mmkd``. It finds its commands by their file, since ``import mmkd_plugin`` imports torch and mmcv."""
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def main() -> None:
    """Runs the command line of this process."""
    package = find_spec('mmkd_plugin')
    assert package is not None, 'it is installed with this script'
    file = Path(next(iter(package.submodule_search_locations or ())), 'cli', 'main.py')
    spec = spec_from_file_location('mmkd_command_line', file)
    assert spec is not None, 'a file of Python code'
    module = module_from_spec(spec)
    assert spec.loader is not None, 'likewise'
    spec.loader.exec_module(module)
    module.main()
