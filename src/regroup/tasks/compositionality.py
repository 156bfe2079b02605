"""Compositionality: of captions that differ in a word, or in the order of words, which one a picture has.

A choice is right if the picture's cosine with the true caption is above that with every other one. What is
equal, to 1e-6, is wrong: a model that tells nothing apart scores 0, and one that guesses `details.chance`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import EachOnce, Pixels, Settings
from regroup.tasks import TaskResult, Work
from regroup.tasks._choices import LAYOUTS, Choice
from regroup.tasks._ranks import TIE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regroup.model import Backbone

MAIN = "macro"
"""The mean over kinds."""


def _known_layout(name: str) -> str:
    try:
        LAYOUTS.check(name)
    except RegroupError as error:
        raise ValueError(str(error)) from None
    return name


class Options(Settings):
    """Which choices, and how they are scored."""

    layout: Annotated[str, AfterValidator(_known_layout)] = "sugarcrepe"
    kinds: Annotated[tuple[str, ...], EachOnce] | None = Field(
        default=None, min_length=1, description="only these, and all of them; null: those that are there"
    )
    limit: int | None = Field(
        default=None, ge=1, le=100_000_000, description="only the first so many choices of each kind"
    )
    size: Pixels | None = Field(default=None, description="side of the images; null: the model's own")
    batch: int = Field(default=64, ge=1, le=65_536, description="images in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        known: tuple[str, ...] = LAYOUTS.load(self.layout).KINDS
        if unknown := [kind for kind in self.kinds or () if kind not in known]:
            raise ValueError(
                f"kinds: {unknown[0]!r}: no such kind of {self.layout}; there are {', '.join(known)}"
            )
        return self


def sources(options: Options) -> Iterable[str]:
    """The choices, and where they are not with them, the pictures."""
    found: Iterable[str] = LAYOUTS.load(options.layout).sources()
    return found


@dataclass(frozen=True)
class Margins:
    """How far the true caption of each choice is above the best of the others.

    Attributes:
        values: differences of cosines.
        groups: of each choice.
    """

    values: NDArray[np.float64]
    groups: tuple[str, ...]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which are above by more than what counts as equal."""
        return self.values > TIE

    def accuracy(self, least: int | None = None) -> float:
        """Percent that are right; or the mean of that over groups of at least so many.

        Raises:
            ValueError: no group has so many.
        """
        import numpy as np

        if least is None:
            return 100 * float(self.right.mean())
        names, group = np.unique(np.array(self.groups), return_inverse=True)
        counts = np.bincount(group, minlength=len(names))
        rates = np.bincount(group, weights=self.right, minlength=len(names)) / counts
        if not (counts >= least).any():
            raise ValueError(f"none of {len(names)} groups has {least} choices")
        return 100 * float(rates[counts >= least].mean())


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Let the model choose.

    Raises:
        RegroupError: files or pictures are missing or broken, there is nothing to choose, there is no such
            device, or a feature of the model is not finite.
    """
    from regroup.device import choose_device

    layout = LAYOUTS.load(options.layout)
    chosen = _read(layout, options, work)
    model.to(choose_device(options.device))
    size = options.size or model.image_size
    margins = _margins(model, chosen, size, options, work)
    values = _with_means(layout, _by_kind(layout, margins, work))
    titles = {name: name.replace("_", " ") for name in values} | {MAIN: "mean over kinds"}
    every = [choice for some in chosen.values() for choice in some]
    scores = DatasetScores(
        values=values,
        images=len({choice.image for choice in every}),
        protocol={
            "name": options.layout,
            "choices": {kind: len(some) for kind, some in chosen.items()},
            "size": size,
            "preprocessing": "the box, if any; short side to `size`, bicubic; square from the centre",
            "ties": "are wrong",
        },
        details={
            "chance": {**_with_means(layout, {kind: _guessed(some) for kind, some in chosen.items()})},
            **_oddities(chosen, margins, model.context),
        },
    )
    files = {"choices.parquet": _items(chosen, margins)}
    metrics = {name: Metric(title=titles[name]) for name in values}
    return TaskResult(MAIN, metrics, {next(iter(layout.sources())): scores}, files)


def _read(layout: Any, options: Options, work: Work) -> dict[str, list[Choice]]:
    """The choices of each kind that is there, or that is asked for."""
    root = work.roots[next(iter(layout.sources()))]
    if look := getattr(layout, "check", None):
        look(root)
    chosen: dict[str, list[Choice]] = {}
    for kind in options.kinds or layout.KINDS:
        if found := layout.read(kind, work.roots):
            chosen[kind] = found[: options.limit]
        elif options.kinds:
            raise RegroupError(
                f"{root}: has no choices of the kind {kind}; take it from `kinds`, or add them"
            )
    if not chosen:
        raise RegroupError(
            f"{root}: has no choices of any kind ({', '.join(layout.KINDS)}); is it in another layout than"
            f" {options.layout}?"
        )
    return chosen


def _margins(
    model: Backbone, chosen: Mapping[str, Sequence[Choice]], size: int, options: Options, work: Work
) -> dict[str, Margins]:
    """Every picture, or part of one, and every text is encoded once."""
    import numpy as np
    import torch.nn.functional as F

    from regroup.features import image_features, text_features

    every = [choice for some in chosen.values() for choice in some]
    # sorted, so that a split that other tasks read whole is found as they kept it
    places = sorted({(choice.image, choice.box) for choice in every}, key=lambda one: (one[0], one[1] or ()))
    texts = list(dict.fromkeys(caption for choice in every for caption in choice.captions))
    boxes = [box for _, box in places] if any(box for _, box in places) else None
    images = image_features(
        model,
        [path for path, _ in places],
        size=size,
        batch=options.batch,
        store=work.features,
        boxes=boxes,
        progress=work.progress,
    )
    # float64 before lengths become one: what is equal stays so
    seen = F.normalize(images.double(), dim=-1).numpy()
    said = F.normalize(text_features(model, texts, store=work.features).double(), dim=-1).numpy()
    row = {place: k for k, place in enumerate(places)}
    column = {text: k for k, text in enumerate(texts)}
    found = {}
    for kind, some in chosen.items():
        margins = []
        for choice in some:
            cosines = said[[column[text] for text in choice.captions]] @ seen[row[choice.image, choice.box]]
            margins.append(cosines[0] - cosines[1:].max())
        found[kind] = Margins(np.array(margins), tuple(choice.group for choice in some))
    return found


def _by_kind(layout: Any, margins: Mapping[str, Margins], work: Work) -> dict[str, float]:
    values = {}
    for kind, found in margins.items():
        try:
            values[kind] = found.accuracy(getattr(layout, "LEAST", None))
        except ValueError as error:
            root = work.roots[next(iter(layout.sources()))]
            raise RegroupError(f"{root}: {kind}: {error}: there is no mean over them") from None
    return values


def _with_means(layout: Any, values: Mapping[str, float]) -> dict[str, float]:
    """A value for each kind with the mean over all, and over groups whose kinds are all there."""
    means = {MAIN: tuple(values), **getattr(layout, "GROUPS", {})}
    found = {
        name: math.fsum(values[kind] for kind in kinds) / len(kinds)
        for name, kinds in means.items()
        if set(kinds) <= set(values)
    }
    return {MAIN: found.pop(MAIN), **values, **found}


def _guessed(choices: Sequence[Choice]) -> float:
    """Percent that are right by chance."""
    return 100 * math.fsum(1 / len(choice.captions) for choice in choices) / len(choices)


def _oddities(
    chosen: Mapping[str, Sequence[Choice]], margins: Mapping[str, Margins], context: int
) -> dict[str, JsonValue]:
    """What is odd about the choices: by kind, how many."""
    return {
        "ties": {kind: int((abs(found.values) <= TIE).sum()) for kind, found in margins.items()},
        "equal_captions": {kind: sum(choice.equal for choice in some) for kind, some in chosen.items()},
        "truncated_captions": {kind: _too_long(some, context) for kind, some in chosen.items()},
    }


def _too_long(choices: Sequence[Choice], context: int) -> int:
    """How many texts lose their end, since they have more tokens than the model reads."""
    from regroup.captions.tokens import tokenize

    texts = list(dict.fromkeys(text for choice in choices for text in choice.captions))
    tokens = tokenize(texts, context=context + 1)
    return int((tokens[:, context] != 0).sum()) if tokens.shape[1] > context else 0


def _items(chosen: Mapping[str, Sequence[Choice]], margins: Mapping[str, Margins]) -> bytes:
    """A row a choice, as Parquet: what there was to choose from, and by how much the true one is above."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (kind, choice.group, choice.image.name, choice.captions[0], list(choice.captions[1:]), float(margin))
        for kind, some in chosen.items()
        for choice, margin in zip(some, margins[kind].values, strict=True)
    ]
    names = ("kind", "group", "image", "caption", "negatives", "margin")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
