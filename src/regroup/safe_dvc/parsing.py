"""Reading DVC's files quickly: every command parses dvc.lock two or three times and params.yaml once a stage.

With a hundred stages, dvc.lock has some 350 kB and takes a parser in pure Python over two seconds; libyaml
reads it in a tenth of that, and what was parsed once need not be again. Only dvc.lock is read by libyaml,
which programs write: a parser that forgives a key given twice must not see what people write. The package
ruamel.yaml.clib, which DVC would use by itself, refuses what people do write: `{url: https://...}`, `[a?b]`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from dvc.utils import strictyaml
from dvc.utils.serialize import _yaml
from ruamel.yaml.resolver import implicit_resolvers

_parse_any: Callable[..., Any] = _yaml.parse_yaml


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12(_Loader):
    """YAML 1.2, as DVC writes it: `yes` and `1:30` are text, `1e-5` and `010` are numbers."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


for _versions, _tag, _pattern, _first in implicit_resolvers:
    if (1, 2) in _versions:
        _Yaml12.add_implicit_resolver(_tag, _pattern, _first)


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "").lower()
    base = next((base for mark, base in (("0o", 8), ("0x", 16), ("0b", 2)) if mark in text), 10)
    return int(text, base)


_Yaml12.add_constructor("tag:yaml.org,2002:int", _integer)


def install() -> None:
    """Make this process's DVC read so."""
    for module in (_yaml, strictyaml):
        assert callable(module.parse_yaml), "another DVC: see where it reads YAML"
        module.parse_yaml = parse_yaml


def parse_yaml(text: str, path: Any, typ: str = "safe") -> Any:
    """As DVC's function of this name; the same text is parsed once."""
    if typ != "safe":
        return _parse_any(text, path, typ)
    # callers may change what they get; unpickling copies three times faster than `deepcopy`
    return pickle.loads(_parse(text, str(path)))


@lru_cache(maxsize=16)
def _parse(text: str, path: str) -> bytes:
    if Path(path).name == "dvc.lock":
        try:
            return pickle.dumps(yaml.load(text, _Yaml12) or {})
        except yaml.YAMLError:
            pass  # for DVC's own words about it
    return pickle.dumps(_parse_any(text, path))
