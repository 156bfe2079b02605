"""What a pickle of `torch.save` holds, found out without running any of it.

A pickle is a program for a small stack machine, and two of its instructions import and call whatever the
file names. `Machine` follows the program but can do neither: a name stays a name, and a call makes a
`Foreign`, an inert stand-in that remembers nothing but its class. The few calls that make a tensor are known
by name and give a `StoredTensor`: where in the file its numbers lie, not the numbers. So optimiser states,
configurations of other libraries and hostile code all read alike, as names, and cost nothing.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

import torch

from regroup.errors import RegroupError

MOST_INSTRUCTIONS = 5_000_000
"""Of one pickle: some 10 s of reading. A checkpoint with its optimiser has about 50,000."""

_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "Untyped": torch.uint8,
}
"""Number types by the name of their storage class: `torch.FloatStorage`, `torch.cuda.HalfStorage`, ..."""


@dataclass(frozen=True)
class Foreign:
    """Stands for an object, a class or a function that only the program which wrote the file knows.

    Attributes:
        name: as the file spells it, module and all.
        items: what it would hold if it is a mapping; the rest of its state is dropped.
    """

    name: str
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """A run of `count` numbers of the file; `first` is where a view of it begins."""

    key: str
    dtype: torch.dtype
    count: int
    first: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file describes it; `storage` is None for one on the meta device, without numbers."""

    storage: Storage | None
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def check(self) -> None:
        """Refuse what lies outside its storage.

        Raises:
            ValueError: says which.
        """
        if self.storage is None:
            raise ValueError("it was saved from the meta device, without its numbers")
        if len(self.size) != len(self.stride) or len(self.size) > 16:
            raise ValueError("its shape and strides contradict each other")
        if min((self.offset, *self.size, *self.stride), default=0) < 0:
            raise ValueError("a size of it is negative")
        stored = self.storage.count * self.storage.dtype.itemsize // self.dtype.itemsize
        last = self.offset + sum((size - 1) * step for size, step in zip(self.size, self.stride, strict=True))
        if self.bytes and last >= stored - self.storage.first:
            raise ValueError(f"it reaches beyond the {stored} numbers that are stored for it")

    @property
    def bytes(self) -> int:
        """How many it takes by itself; shared or repeated numbers take fewer in the file."""
        return math.prod(self.size) * self.dtype.itemsize


class Machine:
    """Follows one pickle's program; see the module's text."""

    def __init__(self) -> None:
        """Start with an empty stack."""
        self.storages: dict[str, Storage] = {}  # every one that the program names, by key
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: IO[bytes]) -> Any:
        """Follow the program up to its end, and leave `program` there.

        Raises:
            RegroupError: it is longer than a checkpoint's can be.
            Exception: any, where it is no well-formed program; the caller says so.
        """
        for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if count > MOST_INSTRUCTIONS:
                raise RegroupError(f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise EOFError

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name](argument))
        elif name in _FROM_MARK:
            items = self._since_mark()
            stack.append(_FROM_MARK[name](items))
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            self._extend(name, self._since_mark())
        elif name in ("APPEND", "SETITEM"):
            taken = 1 if name == "APPEND" else 2
            items = stack[-taken:]
            del stack[-taken:]
            self._extend(f"{name}S", items)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            taken = int(name[-1])
            stack[-taken:] = [tuple(stack[-taken:])]
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "POP" and not (self._marks and self._marks[-1] == len(stack)):
            stack.pop()
        elif name in ("POP", "POP_MARK"):
            self._since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME"):
            self._name_or_call(name, argument)

    def _name_or_call(self, name: str, argument: Any) -> None:
        """The instructions that would import, call or change objects: here they make names."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(Foreign(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last, module = stack.pop(), stack.pop()
            stack.append(Foreign(f"{module}.{last}" if type(module) is type(last) is str else "?"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(self._call(stack.pop(), arguments))
        elif name == "NEWOBJ_EX":
            stack.pop()
            arguments = stack.pop()
            stack.append(self._call(stack.pop(), arguments))
        elif name == "OBJ":
            what, *parts = self._since_mark()
            stack.append(self._call(what, tuple(parts)))
        elif name == "INST":
            parts = self._since_mark()
            stack.append(self._call(Foreign(argument.replace(" ", ".")), tuple(parts)))
        elif name == "BUILD":
            stack.pop()  # the state of an object that is not made
        elif name in ("PERSID", "BINPERSID"):
            stack.append(self._persistent(argument if name == "PERSID" else stack.pop()))
        else:  # extension codes, buffers out of band, whatever comes next
            raise ValueError(f"instruction {name}")

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _extend(self, name: str, items: list[Any]) -> None:
        target = self._stack[-1]
        if name == "SETITEMS":
            target = target.items if isinstance(target, Foreign) else target
            if isinstance(target, dict):
                # keys of plain types alone: hashing a tuple of tuples can take for ever
                pairs = zip(items[::2], items[1::2], strict=True)
                target.update((key, value) for key, value in pairs if isinstance(key, str | int))
        elif isinstance(target, list):
            target.extend(items)

    def _call(self, what: Any, arguments: Any) -> Any:
        name = what.name if isinstance(what, Foreign) else type(what).__name__
        make = _MAKERS.get(name) if isinstance(what, Foreign) else None
        if make is None or not isinstance(arguments, tuple):
            return Foreign(name)
        if make is _from_type:
            return self._call(arguments[0], arguments[2])
        made = make(*arguments)
        return Foreign(name) if made is None else made

    def _persistent(self, key: Any) -> Storage | Foreign:
        """`("storage", class, key, device, count)`, and in old files what part of it is meant."""
        match key:
            case ("storage", Foreign(name=kind), str() as name, _, int() as count, *view):
                dtype = _DTYPES.get(kind.rpartition(".")[2].removesuffix("Storage"))
                if dtype is None or count < 0:
                    return Foreign(kind)
                self.storages[name] = storage = Storage(name, dtype, count)
                match view:
                    case [(_, int() as first, int() as part)] if 0 <= first <= first + part <= count:
                        return Storage(name, dtype, first + part, first)
                return storage
        return Foreign("?")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor | None:
    dtype = storage.dtype if isinstance(storage, Storage) else None
    if len(rest) > 2 and isinstance(rest[2], Foreign):  # version 3 of the call names the type of its numbers
        named = getattr(torch, rest[2].name.removeprefix("torch."), None)
        dtype = named if isinstance(named, torch.dtype) else None
    sizes = [size, stride, (offset,)]
    if dtype is None or not all(isinstance(part, tuple) for part in sizes):
        return None
    if not all(type(number) is int for part in sizes for number in part):
        return None
    return StoredTensor(storage, offset, size, stride, dtype)


def _meta(dtype: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor | None:
    plain = isinstance(size, tuple) and all(type(number) is int for number in size)
    return StoredTensor(None, 0, size, size, torch.float32) if plain else None


def _same(value: Any, *rest: Any) -> Any:
    return value


def _from_type(make: Any, kind: Any, arguments: Any, state: Any) -> None:
    """A call inside a call, of a tensor with attributes of its own: the machine makes the inner one."""


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda *pairs: {},
    "collections.defaultdict": lambda *factory: {},
    "torch.Size": lambda *sizes: tuple(sizes[0]) if sizes and isinstance(sizes[0], list | tuple) else None,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_parameter": _same,
    "torch._utils._rebuild_parameter_with_state": _same,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _same,
    "torch._tensor._rebuild_from_type_v2": _from_type,
}
"""The calls that mean something here, each answered by a function of this module."""

_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: [],  # sets are lists here, so that nothing is hashed
    **{
        name: lambda value: value
        for name in (
            *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
            *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
            *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        )
    },
}


def _dict(items: list[Any]) -> dict[Any, Any]:
    return {
        key: value for key, value in zip(items[::2], items[1::2], strict=True) if isinstance(key, str | int)
    }


_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "DICT": _dict,
    "FROZENSET": list,
}
