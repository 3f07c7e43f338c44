"""Files that ``torch.save`` writes: what is in them, and whether they are whole.

Two layouts are read: zip archives (since torch 1.6), of which every part has a checksum, and the one before.
"""
import io
import stat
import struct
import sys
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, Optional, Tuple, Union

import torch

from .checkpoint_names import Names
from .safe_pickle import Cut, Reader, Refused

_ZIP, _LEGACY = b'PK\x03\x04', b'\x80'
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950a86a20f9469cfc6c, 1001
_CHUNK = 2 ** 24
_END = struct.Struct('<4sHHHHIIH')
Place = Callable[[torch.UntypedStorage, str], torch.UntypedStorage]


class Spoiled(Cut):
    """A file that is not what was once written: empty, cut off, or with other contents."""


def why_spoiled(path: Union[str, Path]) -> Optional[str]:
    """Why a file is no whole checkpoint, in words; None if it is one. Every part is read, and nothing is built.

    Args:
        path: the file, as ``torch.save`` writes it. Of the layout before torch 1.6, which has no checksums, only the length
            can be found wrong.
    """
    try:
        with opened(path) as (stream, size):
            if _kind(stream, size) == _ZIP:
                archive = Archive(stream, size)
                _root(archive)
                for name in archive.parts:
                    archive.check(name)
            else:
                _read_legacy(stream, size, lambda storage, location: storage)
    except OSError as error:
        return f'cannot be read ({error.strerror or error})'
    except Cut as error:
        return str(error)
    except Refused:
        return None  # whole, and unfit to be used
    except Exception as error:  # whatever else a crafted file provokes
        return f'cannot be read ({type(error).__name__}: {str(error)[:200]})'
    return None


def read_torch_file(stream: BinaryIO, size: int, map_location: Any = None) -> Any:
    """What a file holds; nothing in it is executed.

    Args:
        stream: the file, at its beginning.
        size: how large it is, in bytes.
        map_location: as ``torch.load`` has it.

    Raises:
        Spoiled: if it is not whole.
        Cut: if its contents end too early.
        Refused: if it asks for anything but plain values and tensors.
    """
    if _kind(stream, size) == _ZIP:
        return _read_archive(Archive(stream, size), size, _placing(map_location))
    return _read_legacy(stream, size, _placing(map_location))


@contextmanager
def opened(path: Union[str, Path]) -> Iterator[Tuple[BinaryIO, int]]:
    """A regular file and its size. Raises ``OSError`` or :class:`Spoiled` for anything else: a pipe would never end."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise Spoiled('it is no regular file')
    with open(path, 'rb') as stream:
        yield stream, status.st_size


def _kind(stream: BinaryIO, size: int) -> bytes:
    if not size:
        raise Spoiled('it is empty')
    start = stream.read(64)
    stream.seek(0)
    for kind in (_ZIP, _LEGACY):
        if start.startswith(kind):
            return kind
    if not any(start):
        raise Spoiled('it begins with zeros')
    raise Spoiled(f'it begins with {start[:16]!r}, as no file of torch.save does')


@dataclass(frozen=True)
class _Part:
    offset: int
    size: int
    checksum: int


class Archive:
    """A zip archive as torch writes it: nothing compressed, nothing twice, every part within the file.

    Args:
        stream, size: the file, and how large it is.

    Raises:
        Spoiled: if it is no such archive.
    """

    def __init__(self, stream: BinaryIO, size: int):
        self.stream = stream
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
        except zipfile.BadZipFile as error:
            cut = 'not a zip file' in str(error)
            raise Spoiled('it is cut off: its table of contents, which comes last, is missing' if cut else
                          f'its table of contents is spoiled ({error})') from None
        except (ValueError, OSError, NotImplementedError, struct.error, OverflowError) as error:
            raise Spoiled(f'its table of contents is spoiled ({error})') from None
        self._check_count(len(entries), size)
        if sum(entry.file_size for entry in entries) > size:
            raise Spoiled('its parts are larger than the file')
        self.parts: Dict[str, _Part] = {}
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
                raise Spoiled(f'its part {entry.filename[:100]!r} is compressed')
            if entry.filename in self.parts:
                raise Spoiled(f'it has {entry.filename[:100]!r} twice')
            self.parts[entry.filename] = self._part(entry, size)

    def _check_count(self, found: int, size: int) -> None:
        """The last record of the file says how many parts there are: a spoiled length makes the reader skip some."""
        self.stream.seek(max(size - _END.size, 0))
        end = self.stream.read(_END.size)
        if end.startswith(b'PK\x05\x06') and _END.unpack(end)[4] not in (found, 0xFFFF):  # the latter: too many to say
            raise Spoiled(f'its table of contents has {found} parts of {_END.unpack(end)[4]}')

    def _part(self, entry: zipfile.ZipInfo, size: int) -> _Part:
        if not 0 <= entry.header_offset < size:
            raise Spoiled(f'its part {entry.filename[:100]!r} is not where it should be')
        self.stream.seek(entry.header_offset)
        header = self.stream.read(30)
        if len(header) < 30 or not header.startswith(_ZIP):
            raise Spoiled(f'its part {entry.filename[:100]!r} is not where it should be')
        name, extra = struct.unpack('<HH', header[26:])
        offset = entry.header_offset + 30 + name + extra
        if self.stream.read(name) != entry.orig_filename.encode('utf-8' if entry.flag_bits & 0x800 else 'cp437'):
            raise Spoiled(f'its part {entry.filename[:100]!r} has another name in its place')
        if offset + entry.file_size > size:
            raise Spoiled(f'its part {entry.filename[:100]!r} is cut off')
        return _Part(offset, entry.file_size, entry.CRC)

    def read(self, name: str) -> bytes:
        """The contents of a part. Raises :class:`Spoiled` if they are not those that were written."""
        return b''.join(self._chunks(name))

    def check(self, name: str) -> None:
        """Raises :class:`Spoiled` if the contents of a part are not those that were written."""
        for _ in self._chunks(name):
            pass

    def storage(self, name: str) -> torch.UntypedStorage:
        """A part as a storage on the CPU."""
        numbers = torch.empty(self.parts[name].size, dtype=torch.uint8)
        view, start = memoryview(numbers.numpy().data), 0
        for chunk in self._chunks(name):
            view[start:start + len(chunk)] = chunk
            start += len(chunk)
        return numbers.untyped_storage()

    def _chunks(self, name: str) -> Iterator[bytes]:
        part = self.parts[name]
        self.stream.seek(part.offset)
        left, checksum = part.size, 0
        while left:
            chunk = self.stream.read(min(left, _CHUNK))
            if not chunk:
                raise Spoiled(f'its part {name[:100]!r} is cut off')
            left -= len(chunk)
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if checksum != part.checksum and part.checksum:  # 0: torch was told to write none
            raise Spoiled(f'its part {name[:100]!r} is not what was written (by its checksum)')


def _root(archive: Archive) -> str:
    roots = [name[:-len('data.pkl')] for name in archive.parts if name.count('/') == 1 and name.endswith('/data.pkl')]
    if len(roots) != 1:
        raise Spoiled('it is a zip archive of something else than a checkpoint')
    return roots[0]


def _read_archive(archive: Archive, size: int, place: Place) -> Any:
    root = _root(archive)
    if f'{root}constants.pkl' in archive.parts:
        raise Refused('it is a TorchScript archive, which is a program')
    swapped = f'{root}byteorder' in archive.parts and archive.read(f'{root}byteorder') != sys.byteorder.encode()
    storages: Dict[str, torch.UntypedStorage] = {}

    def storage(key: str, dtype: torch.dtype, location: str, count: int) -> torch.UntypedStorage:
        name = f'{root}data/{key}'
        available = archive.parts[name].size if name in archive.parts else 0
        if available != count:
            raise Refused(f'it asks for a storage of {count} bytes where it has {available}')
        if key not in storages:
            numbers = archive.storage(name) if count else torch.UntypedStorage(0)
            if swapped:
                numbers.byteswap(dtype)
            storages[key] = place(numbers, location)
        return storages[key]

    content = archive.read(f'{root}data.pkl')
    return _read_pickle(io.BytesIO(content), len(content), Names(storage, size))


def _read_legacy(stream: BinaryIO, size: int, place: Place) -> Any:
    """The contents come before the numbers: they are read once to know which storages there are, and once with these."""
    wanted: Dict[str, Tuple[torch.dtype, str, int]] = {}

    def note(key: str, dtype: torch.dtype, location: str, count: int) -> torch.UntypedStorage:
        if wanted.setdefault(key, (dtype, location, count))[2] != count or sum(each for *_, each in wanted.values()) > size:
            raise Refused(f'it asks for a storage of {count} bytes where it has others')
        return torch.UntypedStorage(count, device='meta')

    first = Names(note, size)
    found = [_read_pickle(stream, size, first) for _ in range(3)][:2]
    if any(type(value) is not int for value in found) or found != [_LEGACY_MAGIC, _LEGACY_VERSION]:
        raise Spoiled('it begins as a file of torch before 1.6 does, and does not go on as one')
    start = stream.tell()
    _read_pickle(stream, size, first)
    keys = _read_pickle(stream, size, first)
    named = isinstance(keys, list) and all(type(key) in (str, int) for key in keys)
    if not named or set(map(str, keys)) != set(wanted):
        raise Refused('it has other storages than it asks for')
    storages = {key: place(_legacy_storage(stream, *wanted[key]), wanted[key][1]) for key in map(str, keys)}
    stream.seek(start)
    return _read_pickle(stream, size, Names(lambda key, dtype, location, count: storages[key], size))


def _legacy_storage(stream: BinaryIO, dtype: torch.dtype, location: str, count: int) -> torch.UntypedStorage:
    length = stream.read(8)
    data = bytearray(stream.read(count)) if length == struct.pack('<q', count // dtype.itemsize) else b''
    if len(data) != count or len(length) < 8:
        raise Spoiled('it is cut off, or its storages are not those that were written')
    return torch.frombuffer(data, dtype=torch.uint8).untyped_storage() if count else torch.UntypedStorage(0)


def _read_pickle(stream: BinaryIO, size: int, names: Names) -> Any:
    value = Reader(stream, size, names.table, names.build, names.persistent).load()
    names.finish()
    return value


def _placing(map_location: Any) -> Place:
    """What ``torch.load`` does with its argument of this name."""
    default: Place = torch.serialization.default_restore_location
    if map_location is None:
        return default
    if isinstance(map_location, dict):
        return lambda storage, location: default(storage, map_location.get(location, location))
    if callable(map_location):
        def placed(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            moved = map_location(storage, location)
            return default(storage, location) if moved is None else moved  # an empty storage counts as false

        return placed
    return lambda storage, location: default(storage, str(map_location))
