"""Reading YAML into frozen, typed settings, with errors that name the file and the key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from regroup.errors import RegroupError, check_regular, os_words, shown

Model = TypeVar("Model", bound=BaseModel)

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
"""What files, DVC's stages and Snakemake's rules are called after: a profile, a variant, a dataset ...

Lower case, because some file systems take `GE` and `ge` for one; no dot, which is a path to DVC; no space or
mark that a shell would read as its own; no hyphen in front, which would be an option.
"""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What every generator in use takes."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A probability or a part of a whole."""
Pixels = Annotated[int, Field(ge=1, le=65_535)]
"""A side of an image; no JPEG is longer."""


def rule_name(name: str) -> str:
    """A name as part of a Snakemake rule, an identifier: names that differ in `-` and `_` alone are one."""
    return name.replace("-", "_")


def same_rule(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that Snakemake could not tell apart."""
    first: dict[str, str] = {}
    return [
        (first[rule_name(name)], name) for name in names if first.setdefault(rule_name(name), name) != name
    ]


def _in_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the first of {list(pair)} is larger than the second")
    return pair


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if twice := [value for k, value in enumerate(values) if value in values[:k]]:
        raise ValueError(f"{twice[0]!r} is listed twice")
    return values


InOrder = AfterValidator(_in_order)
"""For a pair, least and most."""
EachOnce = AfterValidator(_each_once)
"""For a list in which nothing may stand twice."""


class Settings(BaseModel):
    """Frozen settings: an unknown key is an error, and so is a number that is infinite or none.

    Every number has a range, at least of what could be meant (a test looks at each).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`epochs: yes` is a slip; pydantic would read 1."""
        wanted = str(cls.model_fields[str(info.field_name)].annotation)
        table = isinstance(value, dict) and wanted.startswith("dict[")  # others check their own keys
        parts = value.values() if table else value if isinstance(value, list) else [value]
        if "bool" not in wanted and any(isinstance(part, bool) for part in parts):
            raise ValueError("a number or a word is wanted, not true or false")
        return value


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain Python values.

    Raises:
        RegroupError: the file is missing or is not YAML.
    """
    try:
        check_regular(path)
        # not by libyaml, should it be installed: it knows YAML 1.1 alone, and refuses `{url: http://...}`;
        # as UTF-8, since DVC reads no other, and ruamel would guess UTF-16
        with path.open(encoding="utf-8-sig") as file:
            return YAML(typ="safe", pure=True).load(file)
    except FileNotFoundError:
        raise RegroupError(f"{path}: no such file") from None
    except OSError as error:
        raise RegroupError(f"{path}: {os_words(error)}") from None
    except (
        YAMLError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # the last: tags on what is none, `!!bool x`
        raise RegroupError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise RegroupError(f"{path}: lists or mappings are nested too deeply") from None


def parse(model: type[Model], value: Any, path: Path | str) -> Model:
    """Validate `value`, read from `path` (or from what messages are to name), as `model`.

    Raises:
        RegroupError: one line a fault, each with the dotted key, what is wrong, and for a misspelt key the
            name that was probably meant.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise in_words(error, model, path) from None


def in_words(error: ValidationError, model: type[BaseModel], path: Path | str) -> RegroupError:
    """What `parse` raises, of an error of `model` that was raised elsewhere."""
    lines = [f"{path}: {_explain(fault, model)}" for fault in _own(list(map(dict, error.errors())))]
    return RegroupError("\n".join(lines))


def _own(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Faults less those that follow from others: a list is too short where an entry of it is wrong."""
    parents = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return [fault for fault in faults if fault["type"] != "too_short" or fault["loc"] not in parents]


def _explain(fault: dict[str, Any], model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        import difflib

        known = sorted(_keys(model.model_json_schema()))
        close = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        return f"{key}: unknown key{hint}"
    if fault["type"] == "missing":
        return f"{key}: this key is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == NAME_PATTERN:
        message = "a name is lower-case letters and digits, then also - and _"
    if isinstance(fault["input"], dict | BaseModel):  # the message says what in it is wrong
        return f"{key}: {message}" if key else message
    return f"{key or '(top level)'}: {message} (got {shown(repr(fault['input']), 300)})"


def _keys(schema: Any) -> set[str]:
    """Every property name of a JSON schema."""
    if isinstance(schema, dict):
        own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
        return own.union(*(_keys(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_keys(value) for value in schema))
    return set()
