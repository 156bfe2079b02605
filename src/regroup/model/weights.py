"""Files of weights, as training code and hubs write them: which tensors are the network's, under which names.

A file may hold several tables of tensors (the model, its moving average, an optimiser's state), at any place
and with the prefixes of whatever wrapped the network while it was trained. The network's own table is known
by a tensor that every such network has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from regroup.errors import RegroupError, shortlist, shown
from regroup.io import read_json
from regroup.model.foreign import Foreign, StoredTensor
from regroup.model.pickles import TensorFile, described

State = dict[str, Tensor]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_BIN = "pytorch_model.bin"
_INDEX = ".index.json"

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a name that are no part of the network: put in, at any depth, by torch's own wrappers."""

_AVERAGES = re.compile(
    r"(^|[._ ])(\w*_)?(ema|teacher|avg|average|averaged|swa|shadow|momentum)(_\w*)?($|[._ ])", re.I
)
"""Tables that hold a moving average of the weights beside the weights themselves."""

_DEEPEST = 4
"""Tables inside tables inside ... that are looked into."""


@dataclass(frozen=True)
class Names:
    """How a kind of network is known by its tensors' names.

    Attributes:
        anchor: a tensor that every such network has.
        roots: first parts of all its names; what stands before one is a wrapper's prefix.
        averages_first: whether a moving average is taken before the weights that it is of.
    """

    anchor: str
    roots: frozenset[str]
    averages_first: bool = False


@dataclass(frozen=True)
class Weights:
    """The tensors of one network, with the names that it gives them.

    Attributes:
        file: where they were read.
        names: the kind of network.
        state: the tensors, on the CPU.
        place: where in the file they lay; empty if nowhere in particular.
        passed_over: places of other tables of the same kind.
        stored: what the file holds under `config`.
    """

    file: Path
    names: Names
    state: State
    place: str = ""
    passed_over: tuple[str, ...] = ()
    stored: object = None

    @property
    def note(self) -> str:
        """What to tell of a choice between several tables, or nothing."""
        if not self.passed_over:
            return ""
        others = ", ".join(f"`{place}`" for place in self.passed_over)
        return f"the weights under `{self.place}` are taken, not those under {others}"


def find_weights(path: Path) -> Path:
    """The file that `path` means: itself, or the weights (whole, or the index of their parts) inside it.

    Raises:
        RegroupError: there is no such file or folder, or the folder holds no weights.
    """
    if path.is_dir():
        for name in (WEIGHTS, f"{WEIGHTS}{_INDEX}", _BIN, f"{_BIN}{_INDEX}"):
            if (path / name).is_file():
                return path / name
        raise RegroupError(f"{path}: holds neither {WEIGHTS} nor {_BIN}, nor the index of their parts")
    if not path.is_file():
        raise RegroupError(f"{path}: no such file or folder")
    return path


def read_weights(path: Path, *known: Names, otherwise: str) -> Weights:
    """Read the tensors of a network of one of the `known` kinds; `otherwise` says that it is of none.

    Raises:
        RegroupError: the file is missing or damaged, or holds no such network; says what it holds. Nothing in
            it is run.
    """
    file = find_weights(path)
    content, tensor = _read(file)
    tables = dict(_tables(content))
    for names in known:
        found = [part for place, table in tables.items() for part in _networks(names, place, table)]
        if found:
            # stable: of several alike the first in the file
            found.sort(key=lambda part: bool(_AVERAGES.search(part[0])) != names.averages_first)
            (place, chosen), *others = found
            state = {name: tensor(value, name) for name, value in chosen.items()}
            stored = content.get("config") if place == "model" else None
            passed_over = tuple(shown(place or "(top level)") for place, _ in others)
            return Weights(file, names, state, shown(place or "(top level)"), passed_over, stored)
    raise RegroupError(f"{file}: {_contents(content, tables, otherwise)}")


def require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not numbers: they would give confident nonsense.

    Raises:
        RegroupError: names the tensors with NaN or infinite values.
    """
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if bad:
        raise RegroupError(
            f"{source}: weights are not finite (NaN or infinite): {shortlist(bad)}; the file is damaged, or "
            "training had diverged when it was written"
        )


def _finite(tensor: Tensor) -> bool:
    if tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor)  # NaN, if any, is both; one pass and no copy
    return bool(torch.isfinite(low) & torch.isfinite(high))


Reader = Callable[[Any, str], Tensor]


def _read(file: Path) -> tuple[Any, Reader]:
    """What a file holds, and how to get a tensor of it."""
    if file.name.endswith(_INDEX):
        return _read_parts(file)
    if file.suffix == ".safetensors":
        return read_safetensors(file), lambda value, name: value
    opened = TensorFile(file)

    def tensor(value: Any, name: str) -> Tensor:
        if isinstance(value, Foreign):
            raise RegroupError(f"{file}: {shown(name)} is {described(value)}, whose numbers are not read")
        return value if isinstance(value, Tensor) else opened.tensor(value, name)

    return opened.content, tensor


def _read_parts(index: Path) -> tuple[Any, Reader]:
    """Weights in several files, as large models are published."""
    value = read_json(index)
    places = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise RegroupError(f"{index}: weight_map: expected the file's name of each tensor")
    state: State = {}
    for name in sorted(set(places.values())):
        if PurePosixPath(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise RegroupError(f"{index}: weight_map: {shown(name)} is no name of a file beside the index")
        part = index.parent / name
        if not part.is_file():
            raise RegroupError(f"{index}: weight_map: {shown(name)} is not there; fetch all parts")
        content, tensor = _read(part)
        wanted = [key for key, place in places.items() if place == name]
        lacking = sorted(key for key in wanted if not isinstance(content, dict) or key not in content)
        if lacking:
            raise RegroupError(f"{part}: {index.name} says that it holds {shortlist(lacking)}")
        state |= {key: tensor(content[key], key) for key in wanted}
    return state, lambda value, name: value


def read_safetensors(file: Path) -> State:
    """All tensors of a safetensors file.

    Raises:
        RegroupError: it is damaged, cut short, or something else.
    """
    try:
        return dict(load_file(file))
    except Exception as error:  # the library raises its own and, for odd headers, many of Python's
        raise RegroupError(
            f"{file}: not a safetensors file ({shown(error)}); check the download against its digest"
        ) from None


def _tables(content: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table that holds tensors by name, with its dotted place."""
    waiting, seen = [("", content, 0)], set()
    while waiting:
        place, value, depth = waiting.pop(0)
        table = value.items if isinstance(value, Foreign) else value
        if not isinstance(table, dict) or id(table) in seen:
            continue
        seen.add(id(table))
        named = {key: part for key, part in table.items() if isinstance(key, str)}
        if any(isinstance(part, StoredTensor | Tensor) for part in named.values()):
            yield place, {k: v for k, v in named.items() if isinstance(v, StoredTensor | Tensor | Foreign)}
        if depth < _DEEPEST:
            inner = ((f"{place}.{key}" if place else key, part, depth + 1) for key, part in named.items())
            waiting += [entry for entry in inner if isinstance(entry[1], dict | Foreign)]


def _networks(names: Names, place: str, table: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The networks in one table, each under the prefix that its names share: mostly none or one."""
    prefixed: dict[str, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for key, value in table.items():
        parts = key.split(".")
        root = next((number for number, part in enumerate(parts) if part in names.roots), None)
        if root is None:
            rest |= {key: value} if isinstance(value, StoredTensor | Tensor) else {}
        elif parts[-1] != "_extra_state":
            inner = ".".join(part for part in parts[root:] if part not in _WRAPPERS)
            prefixed.setdefault(".".join(parts[:root]), {})[inner] = value
    anchored = [prefix for prefix, part in prefixed.items() if names.anchor in part]
    if len(anchored) == 1:  # a prefix that only some of the names have
        for prefix in prefixed.keys() - anchored:
            if not prefixed[prefix].keys() & prefixed[anchored[0]].keys():
                prefixed[anchored[0]] |= prefixed[prefix]
    for (
        prefix
    ) in anchored:  # strange names under the same prefix are the network's; others are their program's
        inner = f"{prefix}." if prefix else ""
        prefixed[prefix] |= {k.removeprefix(inner): v for k, v in rest.items() if k.startswith(inner)}
    return [(".".join(filter(None, (place, prefix))), prefixed[prefix]) for prefix in anchored]


def _contents(content: Any, tables: Mapping[str, Mapping[str, Any]], otherwise: str) -> str:
    """Why a file is not what was looked for."""
    if isinstance(content, Foreign) and not content.items:
        return (
            f"holds {described(content)}, a whole program's state that only its own code can read; save the "
            "tensors, `model.state_dict()`, in a file of their own"
        )
    table = content.items if isinstance(content, Foreign) else content
    if not isinstance(table, dict):
        return f"holds {described(content)}, not a table of tensors"
    if "" in tables:
        return f"{otherwise}; first names: {shortlist(sorted(tables[''])[:3])}"
    held = [f"`{shown(key, 40)}` ({described(value)})" for key, value in list(table.items())[:8]]
    more = f" and {len(table) - 8} more" if len(table) > 8 else ""
    first = "; ".join(
        f"`{shown(place)}` begins with {shortlist(sorted(part)[:3])}"
        for place, part in list(tables.items())[:3]
    )
    return f"{otherwise}: it holds {', '.join(held) or 'nothing'}{more}" + (f". {first}" if first else "")
