"""A reader of pickles that executes nothing, looks no name up, and takes no more memory than the file is large.

Python's own reader gives a pickle a say in what is called and how much is allocated. This one knows the instructions that
``torch.save`` writes and no others; a name in a pickle stands for what a table says, and calls go to the functions of
that table only.
"""
import struct
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Set

MOST_INSTRUCTIONS = 5_000_000
"""A checkpoint of 10,000 tensors has about 300,000."""
MOST_DEPTH = 100
MOST_KEY = 2 ** 60  # beyond it, numbers can be chosen such that a dict of them takes the square of its length to build
_DICTS = (dict, OrderedDict, Counter)
_PLAIN_KEYS = (str, bytes, bool, type(None))


class Refused(UnpicklingError):
    """A file that asks for more than numbers, text, lists, dicts and tensors, or for more memory than it may."""


class UnknownName(Refused):
    """A file that asks for a name that the table does not have.

    Args:
        name: the name.
    """

    def __init__(self, name: str):
        super().__init__(f'it asks for {name[:200]}')
        self.name = name


class Cut(EOFError):
    """A file that ends before what it holds does."""


class Part:
    """Something that a file may name, but that only has a meaning inside something else."""


@dataclass(frozen=True, eq=False)
class Maker(Part):
    """What a name in a file stands for if it can be called.

    Attributes:
        name: the name.
        make: takes what the file gives as arguments, and refuses what is not plain.
    """
    name: str
    make: Callable[..., Any]


class Budget:
    """How much may be made of a file.

    Args:
        most: how much in all, in bytes.
        what: what is made, for messages.
    """

    def __init__(self, most: int, what: str):
        self.left, self.most, self.what = most, most, what

    def spend(self, amount: int) -> None:
        """Takes some of it. Raises :class:`Refused` if there is not that much left."""
        self.left -= amount
        if self.left < 0:
            raise Refused(f'it asks for more than {self.most} bytes of {self.what}')


class Reader:
    """Reads one pickle.

    Args:
        stream: where it stands, from its current position.
        size: how many bytes there are in all; no instruction may ask for more.
        names: what each name stands for: a :class:`Maker`, or a value.
        build: takes an object and the state that the file gives it.
        persistent: what an id stands for that the pickle refers to (a storage).
    """

    def __init__(self, stream: BinaryIO, size: int, names: Mapping[str, Any], build: Callable[[Any, Any], None],
                 persistent: Callable[[Any], Any]):
        self.stream, self.size, self.names, self.build, self.persistent = stream, size, names, build, persistent
        self.stack: List[Any] = []
        self.outer: List[List[Any]] = []
        self.memo: Dict[int, Any] = {}

    def load(self) -> Any:
        """What the pickle holds; the stream stands behind it then.

        Raises:
            UnknownName: for a name that is not in the table.
            Refused: for any instruction or argument that is not plain.
            Cut: if the stream ends before the pickle does.
        """
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b'.':
                if len(self.stack) != 1 or self.outer:
                    raise Refused('it ends with a part that was not put anywhere')
                _check_tree(self.stack, self.size)
                return self.stack[0]
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise Refused(f'it holds the pickle instruction {code!r}')
            try:
                instruction(self)
            except (Refused, Cut):
                raise
            except Exception as error:  # an empty stack, a memo that was never written, text that is none
                raise Refused(f'it is no pickle that makes sense ({str(error)[:200]})') from None
        raise Refused(f'it holds more than {MOST_INSTRUCTIONS} pickle instructions')

    def take(self, count: int) -> bytes:
        """The next bytes. Raises :class:`Cut` if there are not that many."""
        data = self.stream.read(count) if count <= self.size else b''
        if len(data) != count:
            raise Cut('it ends in the middle of its contents')
        return data

    def number(self, kind: str) -> int:
        """The next whole number, in the notation of ``struct``."""
        value: int = struct.unpack(kind, self.take(struct.calcsize(kind)))[0]
        return value

    def _line(self) -> str:
        """The next line: a part of a name."""
        line = self.stream.readline(1000)
        if not line.endswith(b'\n'):
            raise Refused('it holds a name without end')
        return line[:-1].decode('utf-8')

    def mark(self) -> None:
        """Begins a new part of the stack."""
        self.outer.append(self.stack)
        self.stack = []

    def items(self) -> List[Any]:
        """What has been put on the stack since the last mark."""
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def name(self, module: Any, name: Any) -> None:
        """Puts on the stack what a name stands for."""
        if type(module) is not str or type(name) is not str:
            raise Refused('it asks for a name that is no text')
        full = f'{"builtins" if module == "__builtin__" else module}.{name}'
        if full not in self.names:
            raise UnknownName(full)
        self.stack.append(self.names[full])

    def call(self) -> None:
        """Makes what a name and arguments stand for."""
        arguments, maker = self.stack.pop(), self.stack.pop()
        if type(maker) is not Maker or type(arguments) is not tuple:
            raise Refused('it calls what is no function')
        try:
            self.stack.append(maker.make(*arguments))
        except (Refused, Cut):
            raise
        except Exception as error:  # whatever arguments provoke that are not plain
            raise Refused(f'it asks for {maker.name} with unfit arguments ({str(error)[:200]})') from None

    def put_into(self, items: List[Any]) -> None:
        """Puts keys and values, one after the other, into the dict on the stack."""
        target = self.stack[-1]
        if type(target) not in _DICTS:
            raise Refused(f'it puts keys into a {type(target).__name__}')
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(key)
            target[key] = value

    def append(self, items: List[Any]) -> None:
        """Appends to the list, or adds to the set, on the stack."""
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            for item in items:
                check_key(item)
                target.add(item)
        else:
            raise Refused(f'it appends to a {type(target).__name__}')

    def tuple_of(self, count: int) -> None:
        """Makes a tuple of the last values on the stack."""
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise Refused('it takes more from its stack than is there')
        self.stack[-count:] = [items]

    def _set_state(self) -> None:
        """Gives the object on the stack a state."""
        state = self.stack.pop()
        self.build(self.stack[-1], state)

    def pushed(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)


def check_key(key: Any) -> None:
    """Raises :class:`Refused` for what is no plain key of a dict or a set."""
    if type(key) not in _PLAIN_KEYS and not (type(key) is int and abs(key) < MOST_KEY):
        raise Refused(f'it has a {type(key).__name__} as a key')


def _text(data: bytes) -> str:
    return str(data, 'utf-8', 'surrogatepass')


_INSTRUCTIONS: Dict[bytes, Callable[[Reader], Any]] = {
    b'\x80': lambda reader: reader.take(1),  # protocol
    b'\x95': lambda reader: reader.take(8),  # frame
    b'(': Reader.mark,
    b'N': lambda reader: reader.pushed(None),
    b'\x88': lambda reader: reader.pushed(True),
    b'\x89': lambda reader: reader.pushed(False),
    b'J': lambda reader: reader.pushed(reader.number('<i')),
    b'K': lambda reader: reader.pushed(reader.number('<B')),
    b'M': lambda reader: reader.pushed(reader.number('<H')),
    b'\x8a': lambda reader: reader.pushed(int.from_bytes(reader.take(reader.number('<B')), 'little', signed=True)),
    b'G': lambda reader: reader.pushed(struct.unpack('>d', reader.take(8))[0]),
    b'X': lambda reader: reader.pushed(_text(reader.take(reader.number('<I')))),
    b'\x8c': lambda reader: reader.pushed(_text(reader.take(reader.number('<B')))),
    b'\x8d': lambda reader: reader.pushed(_text(reader.take(reader.number('<Q')))),
    b'U': lambda reader: reader.pushed(_text(reader.take(reader.number('<B')))),  # written by Python 2
    b'T': lambda reader: reader.pushed(_text(reader.take(reader.number('<I')))),
    b'C': lambda reader: reader.pushed(reader.take(reader.number('<B'))),
    b'B': lambda reader: reader.pushed(reader.take(reader.number('<I'))),
    b'\x8e': lambda reader: reader.pushed(reader.take(reader.number('<Q'))),
    b')': lambda reader: reader.pushed(()),
    b'\x85': lambda reader: reader.tuple_of(1),
    b'\x86': lambda reader: reader.tuple_of(2),
    b'\x87': lambda reader: reader.tuple_of(3),
    b't': lambda reader: reader.pushed(tuple(reader.items())),
    b']': lambda reader: reader.pushed([]),
    b'a': lambda reader: reader.append([reader.stack.pop()]),
    b'e': lambda reader: reader.append(reader.items()),
    b'}': lambda reader: reader.pushed({}),
    b's': lambda reader: reader.put_into([*reversed((reader.stack.pop(), reader.stack.pop()))]),
    b'u': lambda reader: reader.put_into(reader.items()),
    b'\x8f': lambda reader: reader.pushed(set()),
    b'\x90': lambda reader: reader.append(reader.items()),
    b'c': lambda reader: reader.name(reader._line(), reader._line()),
    b'\x93': lambda reader: reader.name(*reversed((reader.stack.pop(), reader.stack.pop()))),
    b'R': Reader.call,
    b'\x81': Reader.call,
    b'b': Reader._set_state,
    b'q': lambda reader: reader.memo.update({reader.number('<B'): reader.stack[-1]}),
    b'r': lambda reader: reader.memo.update({reader.number('<I'): reader.stack[-1]}),
    b'\x94': lambda reader: reader.memo.update({len(reader.memo): reader.stack[-1]}),
    b'h': lambda reader: reader.pushed(reader.memo[reader.number('<B')]),
    b'j': lambda reader: reader.pushed(reader.memo[reader.number('<I')]),
    b'Q': lambda reader: reader.pushed(reader.persistent(reader.stack.pop())),
}
"""By opcode. What is not here, no checkpoint has: text without a length, objects by their class, extension codes."""


def _check_tree(value: Any, size: int) -> None:
    """Refuses what is part of itself, is nested too deep, or far larger than the file if nothing in it were shared."""
    most = 16 * size + 100_000
    measured: Dict[int, int] = {}  # by id: how much a container holds
    begun: Set[int] = set()  # those around the one that is looked at
    waiting = [value]
    while waiting:
        node = waiting[-1]
        if id(node) in measured:
            waiting.pop()
            continue
        inside = _inside(node)
        unknown = [child for child in inside if isinstance(child, _CONTAINERS) and id(child) not in measured]
        if unknown:
            begun.add(id(node))
            if len(begun) > MOST_DEPTH:
                raise Refused(f'it is nested more than {MOST_DEPTH} deep')
            if any(id(child) in begun for child in unknown):
                raise Refused('a part of it holds itself')
            waiting.extend(unknown)
            continue
        weight = 1 + sum(measured.get(id(child)) or _measure_leaf(child) for child in inside)
        if weight > most:
            raise Refused('it refers to its parts so often that a copy would be far larger')
        measured[id(node)] = weight
        begun.discard(id(node))


_CONTAINERS = (dict, list, tuple, set)


def _measure_leaf(value: Any) -> int:
    if isinstance(value, Part):
        raise Refused(f'it holds {getattr(value, "name", "a storage")} by itself')
    return 1 + (len(value) // 64 if isinstance(value, (str, bytes)) else 0)


def _inside(value: Any) -> List[Any]:
    if isinstance(value, dict):
        attributes = getattr(value, '__dict__', {})  # of an OrderedDict
        return [*value, *value.values(), *attributes.values()]
    return list(value)
