"""Checkpoints that somebody has made to do harm: what several tests have to refuse."""
import builtins
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


class Call:
    """Pickles as a call of something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    """Pickles as an object of a class with a state of its own."""

    def __init__(self, kind, state, *arguments):
        self.kind, self.state, self.arguments = kind, state, arguments

    def __reduce__(self):
        return self.kind, self.arguments, self.state


def touch(proof):
    """Python that leaves a file behind when it is executed."""
    return f'import pathlib\npathlib.Path({str(proof)!r}).touch()'


def nested(breadth, depth):
    """Lists that refer to the same lists, again and again: small in a file, without end where it is copied or shown."""
    value = []
    for _ in range(depth):
        value = [value] * breadth
    return value


def holding_itself():
    value = []
    value.append(value)
    return value


EXECUTING = dict(
    os_system=lambda proof: Call(os.system, f'touch {proof}'),
    eval=lambda proof: Call(eval, f'__import__("pathlib").Path({str(proof)!r}).touch()'),
    exec=lambda proof: Call(exec, touch(proof)),
    compile=lambda proof: Call(compile, touch(proof), 'x', 'exec'),
    open=lambda proof: Call(open, str(proof), 'w'),
    a_statistic_of_a_log=lambda proof: State(HistoryBuffer, dict(
        _log_history=np.zeros(1), _count_history=np.ones(1), max_length=3,
        statistics_methods=dict(mean=Call(os.system, f'touch {proof}')))),
    getattr_of_a_module=lambda proof: Call(getattr, Path(proof), 'touch'),
    numpy_load=lambda proof: Call(np.memmap, str(proof), 'u1', 'w+', 0, (8,)))
"""Objects that leave a file behind when they are unpickled by Python: by name, a function of the file's path."""

EMPTY = np.zeros(1).__reduce__()  # what every array begins with
CORRUPTING = dict(
    getattr_init=Call(getattr, HistoryBuffer, '__init__'), getattr_tofile=Call(getattr, np.ndarray, 'tofile'),
    ndarray_of_pointers=Call(np.ndarray, (1,), 'O', b'A' * 8), ndarray_without_end=Call(np.ndarray, (2 ** 30,), 'O'),
    dtype_of_objects=Call(np.dtype, 'O'), dtype_with_fields=Call(np.dtype, [('a', 'f8')]),
    history_of_text=State(HistoryBuffer, dict(
        _log_history='AAAA', _count_history='AAAA', max_length=3, statistics_methods=dict(min=len))),
    history_of_one_log=State(HistoryBuffer, dict(_log_history=np.zeros(2), _count_history=np.zeros(1), max_length=3)),
    history_from_arguments=Call(HistoryBuffer, [1.], [1]),
    array_of_too_few_bytes=State(EMPTY[0], (1, (2 ** 40,), np.dtype('f8'), False, b'12345678'), *EMPTY[1]),
    array_of_pointers=State(EMPTY[0], (1, (1,), np.dtype('O'), False, [1]), *EMPTY[1]),
    array_of_an_array=State(np.ndarray, (1, (2 ** 40,), np.dtype('f8'), False, b'12345678'), 0),
    bytearray_of_8_gigabytes=Call(bytearray, 8 * 10 ** 9), bytes_of_8_gigabytes=Call(bytes, 8 * 10 ** 9),
    a_range_as_a_set=Call(set, Call(range, 10 ** 10)), a_number_without_end=Call(pow, 10, 10 ** 9),
    lists_of_lists=nested(10, 40), a_list_in_itself=holding_itself(),
    a_wide_tensor=Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (2 ** 40,), (1,), False),
    a_spread_tensor=torch.ones(1).expand(2 ** 34), a_key_that_is_a_tuple={(1, 2): 3},
    versions_of_text=State(type(torch.nn.Linear(1, 1).state_dict()), dict(_metadata={'': dict(version='two')})),
    a_class_itself=np.ndarray, a_printer=builtins.print)
"""Objects that take memory, crash or change the process, or stop those who look at them, when they are unpickled."""


def raw(path, content, parts=None, compressed=()):
    """A zip archive as torch writes it, with a pickle of one's own."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in {'data.pkl': content, 'version': b'3\n', **(parts or {})}.items():
            kind = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(f'archive/{name}'), data, kind)


def tensor_of(count, sides, steps=(1,), offset=0, key='0'):
    """The instructions of a tensor in the storage `key` of `count` floats."""
    numbers = [b'(', *(b'J' + struct.pack('<i', side) for side in sides), b't', b'(',
               *(b'J' + struct.pack('<i', step) for step in steps), b't']
    return (b'ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00'
            + key.encode() + b'X\x03\x00\x00\x00cpu\x8a\x08' + struct.pack('<q', count) + b'tQK' + bytes([offset])
            + b''.join(numbers) + b'\x89ccollections\nOrderedDict\n)RtR')


def weights(tensor):
    """The pickle of a checkpoint with one weight."""
    return b'\x80\x02}X\x0a\x00\x00\x00state_dict}X\x06\x00\x00\x00weight' + tensor + b'ss.'


def value(instructions):
    """The pickle of a checkpoint with one weight and, beside it, what these instructions make."""
    return b'\x80\x02}(X\x0a\x00\x00\x00state_dict}X\x06\x00\x00\x00weight' + tensor_of(4, (4,)) + b'sX\x01\x00\x00\x00x' \
        + instructions + b'u.'


STORED = {'data/0': b'\0' * 16}
TEXT = b'X' + struct.pack('<I', 200_000) + b'a' * 200_000
RAW = dict(
    storage_larger_than_its_bytes=lambda path: raw(path, weights(tensor_of(2 ** 31, (4,))), STORED),
    storage_that_is_not_there=lambda path: raw(path, weights(tensor_of(4, (4,), key='7')), STORED),
    tensor_beyond_its_storage=lambda path: raw(path, weights(tensor_of(4, (5,))), STORED),
    tensor_that_begins_beyond=lambda path: raw(path, weights(tensor_of(4, (4,), offset=1)), STORED),
    tensor_with_negative_steps=lambda path: raw(path, weights(tensor_of(4, (2,), (-1,))), STORED),
    tensor_of_many_dimensions=lambda path: raw(path, weights(tensor_of(4, (1,) * 60, (1,) * 60)), STORED),
    zip_bomb=lambda path: raw(path, weights(tensor_of(2 ** 24, (2 ** 24,))), {'data/0': b'\0' * 2 ** 26}, ('data/0',)),
    pickle_bomb=lambda path: raw(path, value(b'X' + struct.pack('<I', 2 ** 26) + b'a' * 2 ** 26), STORED, ('data.pkl',)),
    text_without_end=lambda path: raw(path, value(b'\x8d' + struct.pack('<Q', 2 ** 40) + b'a'), STORED),
    bytes_without_end=lambda path: raw(path, value(b'\x96' + struct.pack('<Q', 2 ** 33)), STORED),
    a_digit_bomb=lambda path: raw(path, value(b'L' + b'9' * 500_000 + b'L\n'), STORED),
    a_long_number=lambda path: raw(path, value(b'\x8b' + struct.pack('<i', 2 ** 30)), STORED),
    lists_in_lists=lambda path: raw(path, value(b']' * 200_000 + b'a' * 199_999), STORED),
    many_copies_of_a_text=lambda path: raw(path, value(
        b'](' + TEXT + b'X\x06\x00\x00\x00latin1\x86q\x01' + b'c_codecs\nencode\nh\x01R' * 20_000 + b'e'), STORED),
    keys_that_collide=lambda path: raw(path, value(b'}(' + b''.join(
        b'\x8a\x0a' + (times * (2 ** 61 - 1)).to_bytes(10, 'little') + b'N' for times in range(1, 50_000)) + b'u'), STORED),
    an_object_by_its_class=lambda path: raw(path, value(b'(ios\nsystem\n'), STORED),
    an_extension_code=lambda path: raw(path, value(b'\x82\x01'), STORED),
    a_part_twice=lambda path: twice(path), overlapping_parts=lambda path: overlapping(path),
    a_storage_by_itself=lambda path: raw(path, value(tensor_of(4, (4,))[len(b'ctorch._utils\n_rebuild_tensor_v2\n('):].split(
        b'tQ')[0] + b'tQ'), STORED),
    instructions_before_a_mark=lambda path: raw(path, b'\x80\x02tetuR.', STORED),
    a_legacy_file_that_calls=lambda path: path.write_bytes(
        b''.join(pickle.dumps(part, 2) for part in (0x1950a86a20f9469cfc6c, 1001, {}, Call(os.getcwd), []))),
    a_legacy_storage_without_end=lambda path: path.write_bytes(
        b''.join(pickle.dumps(part, 2) for part in (0x1950a86a20f9469cfc6c, 1001, {}))
        + weights(tensor_of(2 ** 40, (4,))) + pickle.dumps(['0'], 2)))
"""Files below 1 MB, by name, whose own bytes are the harm."""


def twice(path):
    """The same name for two parts."""
    raw(path, weights(tensor_of(4, (4,))), STORED)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.NameToInfo.clear()
        archive.writestr(zipfile.ZipInfo('archive/data/0'), b'\1' * 16)


def overlapping(path):
    """Many parts that are the same bytes: together larger than the file."""
    raw(path, weights(tensor_of(1024, (1024,))), {'data/0': b'\0' * 4096})
    with zipfile.ZipFile(path, 'a') as archive:
        first = archive.getinfo('archive/data/0')
        for number in range(1, 2000):
            copy = zipfile.ZipInfo(f'archive/data/{number}')
            copy.header_offset, copy.CRC, copy.file_size, copy.compress_size = (
                first.header_offset, first.CRC, 4096, 4096)
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True


def write(path, name, content, proof):
    """Writes a crafted file: the content of an honest checkpoint and the harm beside it, or bytes of its own."""
    if name in RAW:
        RAW[name](path)
        return
    harm = EXECUTING[name](proof) if name in EXECUTING else CORRUPTING[name]
    torch.save(dict(content, harm=harm), path)


NAMES = [*EXECUTING, *CORRUPTING, *RAW]
