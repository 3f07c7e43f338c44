"""Damage to files: bytes that are missing, added or others, and things that are no files."""
import os
import random
from pathlib import Path
from typing import Callable, Dict, List

Damage = Callable[[bytes, random.Random], bytes]


def _flipped(data: bytes, chance: random.Random, count: int = 1) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        place = chance.randrange(len(changed))
        changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[:chance.randrange(len(data))]


def _without_part(data: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(data))
    return data[:begin] + data[begin + chance.randrange(1, 200):]


def _with_part(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + chance.randbytes(chance.randrange(1, 50)) + data[place:]


def _zeroed(data: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(data))
    end = min(len(data), begin + chance.randrange(1, max(2, len(data) // 2)))
    return data[:begin] + bytes(end - begin) + data[end:]


def _twice(data: bytes, chance: random.Random) -> bytes:
    begin, length = chance.randrange(len(data)), chance.randrange(1, 300)
    return data[:begin + length] + data[begin:]


DAMAGES: Dict[str, Damage] = {
    'a bit': _flipped,
    'bits': lambda data, chance: _flipped(data, chance, chance.randrange(2, 100)),
    'cut': _cut,
    'cut short': lambda data, chance: data[:-chance.randrange(1, 40)],
    'begins late': lambda data, chance: data[chance.randrange(1, 40):],
    'a part missing': _without_part,
    'a part added': _with_part,
    'a part is zero': _zeroed,
    'a part twice': _twice,
    'empty': lambda data, chance: b'',
    'zeros': lambda data, chance: bytes(len(data)),
    'noise': lambda data, chance: chance.randbytes(min(len(data), 5000)),
    'twice': lambda data, chance: data * 2,
    'text': lambda data, chance: b'<html><body>404 Not Found</body></html>\n',
    'a byte': lambda data, chance: bytes([chance.randrange(256)]),
    'something before it': lambda data, chance: b'\xef\xbb\xbf' + data,
    'something after it': lambda data, chance: data + chance.randbytes(20),
    'a pointer of git': lambda data, chance: b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n',
}
"""By name: what becomes of the bytes of a file."""


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _endless(path: Path) -> None:
    path.symlink_to('/dev/zero')


NO_FILES: Dict[str, Callable[[Path], None]] = {
    'a folder': _folder, 'a pipe': _pipe, 'a link to itself': _link_to_itself, 'a link to /dev/zero': _endless,
    'nothing': lambda path: None}
"""By name: what stands in the place of a file."""


def damaged(data: bytes, chance: random.Random) -> 'tuple[str, bytes]':
    """A damage by name, and the bytes after it."""
    names: List[str] = list(DAMAGES)
    name = chance.choice(names)
    return name, DAMAGES[name](data, chance)
