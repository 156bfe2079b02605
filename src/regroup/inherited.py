"""Values that a profile on real data has from the default profile, which is sized for a drawn world.

A profile is laid over the default one, so a key that it does not name keeps a value that was meant for some
hundred drawn images and two cores: two augmented views an image, epochs of 128 captions. `full/why.yaml` says
of every key what real data wants, and why; a profile that has the default's value instead, and does not say
so itself, is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from regroup.params import Params, load_params
from regroup.settings import Settings, parse, read_yaml
from regroup.study import find_place

REASONS = Path("full/why.yaml")
DEFAULT = Path("params.yaml")
_DATASETS = "evaluate.segmentation.datasets."


class Reason(Settings):
    """Why a value may stand for real data: one of five kinds, with a `value` where scores depend on it."""

    value: Any | bool = None
    study: str | None = Field(default=None, min_length=1, description="the thesis has the value, there")
    choice: str | None = Field(default=None, min_length=1, description="chosen for real data, because")
    cost: str | None = Field(default=None, min_length=1, description="no score depends on it")
    unread: str | None = Field(default=None, min_length=1, description="nothing reads it")
    place: str | None = Field(default=None, min_length=1, description="where things lie, what is shown")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = self.model_fields_set - {"value"}
        if len(kinds) != 1:
            raise ValueError("give one of study, choice, cost, unread, place")
        if self.decides != ("value" in self.model_fields_set):
            raise ValueError("`value` goes with `study` and `choice`, and with nothing else")
        return self

    @property
    def decides(self) -> bool:
        """Whether scores depend on the value."""
        return self.study is not None or self.choice is not None

    def __str__(self) -> str:
        """For messages."""
        if self.study is not None:
            return f"the thesis, {self.study}"
        return next(text for text in (self.choice, self.cost, self.unread, self.place) if text is not None)


class _Reasons(Settings):
    reasons: dict[str, Reason]


def load_reasons(path: Path = REASONS) -> Mapping[str, Reason]:
    """The reasons by dotted key.

    Raises:
        RegroupError: an entry with no kind, several, or an unknown one; the message names the key.
    """
    return parse(_Reasons, {"reasons": read_yaml(path)}, path).reasons


def leaves(values: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings by its dotted key; lists and empty mappings are values."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{above}.{key}" if above else str(key))
    else:
        yield above, values


def reason_for(key: str, reasons: Mapping[str, Reason]) -> Reason | None:
    """The entry of a key, or of the nearest key above it whose value decides nothing."""
    if key in reasons:
        return reasons[key]
    above = key
    while "." in above:
        above = above.rpartition(".")[0]
        if above in reasons:
            return None if reasons[above].decides else reasons[above]
    return None


def inherited_values(params_file: Path) -> list[str]:
    """What a profile has from the default one unsaid, and real data wants otherwise: a line each.

    Nothing for a profile of drawn data, for the default profile, or where there is no `full/why.yaml`.

    Raises:
        RegroupError: a file cannot be read.
    """
    if not REASONS.is_file() or not DEFAULT.is_file() or params_file.resolve() == DEFAULT.resolve():
        return []
    params, overrides = load_params(params_file), _overrides_of(params_file)
    own, default = dict(leaves(read_yaml(params_file))), dict(leaves(read_yaml(DEFAULT)))
    said = {key for path in overrides for key, _ in leaves(read_yaml(path) or {})}
    lines = [
        f"{params_file}: {key}: {_shown(own[key])} is meant for drawn data; full has {_shown(reason.value)} "
        f"({reason})"
        for key, reason in load_reasons().items()
        if reason.decides
        and key in own
        and own[key] == default.get(key) != reason.value
        and not any(key == one or key.startswith(f"{one}.") for one in said)
        and _on_real_data(key, params)
    ]
    if lines and overrides:
        lines.append(f"{overrides[0]}: say there which it is to be, or all at once: `base: full`")
    return lines


def _overrides_of(params_file: Path) -> list[Path]:
    """The files laid over the default params.yaml to make this one, its own first."""
    place = find_place(params_file.parent)
    found = [] if place is None else list(reversed(place.overrides))
    folder: Path | None = params_file.parent if place is None else place.profile
    while folder is not None and (path := folder / "overrides.yaml").is_file() and path not in found:
        found.append(path)
        values = read_yaml(path)
        base = values.get("base") if isinstance(values, dict) else None
        folder = None if base is None else Path(str(base))
    return found


def _on_real_data(key: str, params: Params) -> bool:
    """Whether what a key is about is not drawn: a dataset's source, or the captions that are trained on."""
    source = "coco"
    if key.startswith(_DATASETS):
        name = key.removeprefix(_DATASETS).partition(".")[0]
        source = params.datasets[name].source
    return params.sources[source].kind != "mini"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
