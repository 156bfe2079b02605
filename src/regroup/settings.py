"""Reading YAML into frozen, typed settings, with errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from regroup.errors import RegroupError, check_regular, os_words

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """Frozen settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain Python values.

    Raises:
        RegroupError: the file is missing or is not YAML.
    """
    try:
        check_regular(path)
        return YAML(typ="safe").load(path)
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


def parse(model: type[Model], value: Any, path: Path) -> Model:
    """Validate `value`, read from `path`, as `model`.

    Raises:
        RegroupError: one line a fault, each with the dotted key, what is wrong, and for a misspelt key the
        name
            that was probably meant.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [f"{path}: {_explain(dict(fault), model)}" for fault in error.errors()]
        raise RegroupError("\n".join(lines)) from None


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
    return f"{key}: {fault['msg']} (got {fault['input']!r})"


def _keys(schema: Any) -> set[str]:
    """Every property name of a JSON schema."""
    if isinstance(schema, dict):
        own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
        return own.union(*(_keys(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(_keys(value) for value in schema))
    return set()
