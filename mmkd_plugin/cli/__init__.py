"""The command ``mmkd``: ``main.py`` has its commands and flags, a file beside it what a command does."""
