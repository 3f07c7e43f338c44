"""``python -m mmkd_plugin``: the command ``mmkd``."""
from .cli.main import main

if __name__ == '__main__':
    main()
