"""Class names as text features: prompt templates, and the two ways in which several are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from regroup.errors import RegroupError, shortlist
from regroup.settings import EachOnce, Settings, read_yaml
from regroup.tasks._ranks import same_text
from regroup.texts import text_problem

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from regroup.model import Backbone

SETS = ("thesis", "clip7", "clip80")
"""Templates by name: that of section 4.4.1; the seven of CLIP's notebook, which GroupViT takes; CLIP's 80."""

KEPT = 16_384
"""Texts whose features are kept at most; those of 21,000 classes in 80 templates would fill a disk."""


class Prompts(Settings):
    """How a class name becomes text.

    Conventions of `ensemble` for several texts a class: `clip` takes each feature to unit length, then the
    mean of these (Radford et al. 2021, their notebook); `groupvit` takes the mean as it comes (Xu et al.
    2022). Either mean is then used in a cosine.
    """

    templates: str | Annotated[tuple[str, ...], EachOnce] = Field(
        default="thesis", description="thesis, clip7, clip80, or a list; {} is the class"
    )
    ensemble: Literal["clip", "groupvit"] = "clip"
    words: Literal["first", "all"] = Field(
        default="first", description="of a class with several: the first, or all as further texts"
    )

    @field_validator("templates")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in SETS:
                raise ValueError(f"no such templates; there are {', '.join(SETS)}, or give a list")
        elif not value:
            raise ValueError("an empty list; a class needs one template at least")
        elif wrong := [one for one in value if one.count("{}") != 1]:
            raise ValueError(f"{wrong[0]!r} has to have {{}} once, where the class stands")
        elif problem := next(filter(None, map(text_problem, value)), None):
            raise ValueError(problem)
        return value

    @property
    def texts(self) -> tuple[str, ...]:
        """The templates themselves."""
        from regroup.captions.prompts import INFERENCE_TEMPLATE, TRAINING_TEMPLATES

        if not isinstance(self.templates, str):
            return self.templates
        if self.templates == "clip80":
            return tuple(read_yaml(Path(__file__).with_suffix(".yaml"))["clip80"])
        return (INFERENCE_TEMPLATE,) if self.templates == "thesis" else TRAINING_TEMPLATES

    def of(self, names: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
        """Number of the class and text, for each text of each class."""
        templates = self.texts
        for number, words in enumerate(names):
            for word in words if self.words == "all" else words[:1]:
                for template in templates:
                    yield number, template.replace("{}", word)

    def protocol(self) -> dict[str, JsonValue]:
        """What a metrics file says of them."""
        named = self.templates
        return {
            "templates": named if isinstance(named, str) else list(named),
            "texts_a_word": len(self.texts),
            "ensemble": self.ensemble,
            "words": self.words,
        }


def class_features(
    model: Backbone, names: Sequence[Sequence[str]], prompts: Prompts, *, store: Path | None
) -> Float[Tensor, "classes c"]:
    """One text feature a class, float64 and of unit length, on the CPU.

    Texts are encoded some thousands at a time and added up on the way, so memory does not grow with their
    number.

    Args:
        model: on any device.
        names: the words of each class.
        prompts: templates, and how several are put together.
        store: folder of features that may be kept and read, see `regroup.features`; None: keep none.

    Raises:
        RegroupError: a feature is not finite.
    """
    import torch
    import torch.nn.functional as F

    from regroup.features import TEXTS, text_features

    if sum(1 for _ in islice(prompts.of(names), KEPT + 1)) > KEPT:
        store = None
    total = torch.zeros(len(names), model.config.joint_width, dtype=torch.float64)
    pairs = prompts.of(names)
    while some := list(islice(pairs, TEXTS)):
        found = text_features(model, [text for _, text in some], store=store).double()
        if prompts.ensemble == "clip":
            found = F.normalize(found, dim=-1)
        total.index_add_(0, torch.tensor([number for number, _ in some]), found)
    return F.normalize(total, dim=-1)  # of a sum as of a mean


def check_distinct(names: Sequence[Sequence[str]], folders: Sequence[str], prompts: Prompts) -> None:
    """Refuse classes that are one text: no model could tell them apart.

    Raises:
        RegroupError: names the folders.
    """
    first: dict[str, int] = {}
    alike = []
    for number, words in enumerate(names):
        for word in words if prompts.words == "all" else words[:1]:
            if (other := first.setdefault(same_text(word), number)) != number:
                alike.append(f"{folders[other]} and {folders[number]} ({word})")
    if alike:
        raise RegroupError(
            f"classes with the same word cannot be told apart: {shortlist(alike, 5)}; give other words in "
            "classes.txt beside the splits, or a file in `names`"
        )
