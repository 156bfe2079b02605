"""A study's fine-tuning runs: its `variants.yaml` as typed objects.

A variant says only what the science is (which parts are trained, which labels, which objectives, for how many
epochs); how large an epoch, a batch or an image is belongs to the profile (`params.yaml`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from regroup.captions.settings import LabelSource, Padding
from regroup.errors import RegroupError
from regroup.model.parts import Part
from regroup.settings import Name, Seed, Settings, parse, read_yaml, same_rule
from regroup.study import Borrowed, TableRow


class LabelSettings(Settings):
    """Which labels a caption gives and how many are drawn (sections 4.1, 5.6, 5.7)."""

    source: LabelSource = "phrases+nouns"
    count: int = Field(default=5, ge=0, le=64)
    padding: Padding = "null"
    vocabulary: Name | None = None

    @model_validator(mode="after")
    def _a_vocabulary_is_of_labels(self) -> LabelSettings:
        if self.vocabulary is not None and self.source == "none":
            raise ValueError("`vocabulary` chooses among labels, of which `source: none` has none")
        return self


class ObjectiveSettings(Settings):
    """One term of the total loss: its name in `regroup.objectives`, its weight and its options."""

    name: str
    weight: float = Field(default=1.0, ge=0, le=1_000_000)
    options: dict[str, str] = Field(default_factory=dict)


class Variant(Settings):
    """One fine-tuning run.

    `batch` and `resolution` are the study's own numbers (images of the global batch; pixels): the profile
    maps them to what it can afford. No objective means no training: the checkpoint is scored as it is.
    `grouping_blocks` other than 2 re-stage the model (section 5.13), `last_group_tokens` (of the study's 8)
    cuts the last block's; with `dino_input` the second block groups DINO's features (section 5.14.2).
    """

    title: str
    rows: tuple[TableRow, ...] = ()
    epochs: int = Field(default=30, ge=1, le=100_000)
    batch: int = Field(default=256, ge=2, le=1_048_576)
    resolution: Literal[224, 384] = 224
    trainable: Part = "both_gbs"
    labels: LabelSettings = LabelSettings()
    objectives: tuple[ObjectiveSettings, ...] = ()
    seed: Seed = 123
    grouping_blocks: Literal[1, 2, 3] = 2
    last_group_tokens: int | None = Field(default=None, ge=1, le=8)
    dino_input: bool = False

    @model_validator(mode="after")
    def _parts_fit(self) -> Variant:
        if self.objectives and self.trainable == "nothing":
            raise ValueError("`trainable: nothing` leaves nothing to its `objectives`; drop one of the two")
        if self.objectives and not any(term.weight for term in self.objectives):
            raise ValueError("objectives: every weight is 0, so there is nothing to minimise")
        if self.dino_input and self.grouping_blocks == 1:
            raise ValueError("`dino_input` feeds the second grouping block, and `grouping_blocks` is 1")
        return self

    @property
    def reads_dino(self) -> bool:
        """Whether the run needs self-supervised patch features."""
        return self.dino_input or any(term.name == "dino_distillation" for term in self.objectives)

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.objectives)

    @property
    def science(self) -> dict[str, Any]:
        """What the run computes, every default filled in, as plain values: no title and no rows.

        Where nothing is trained, nothing else of the variant is used.
        """
        unused = {"title", "rows"} if self.trained else set(type(self).model_fields) - {"objectives"}
        return self.model_dump(mode="json", exclude=unused)


class _File(Settings):
    variants: dict[Name, Variant] = Field(min_length=1)
    borrowed: dict[Name, Borrowed] = Field(default_factory=dict)


def load_variants(path: Path, *, check_objectives: bool = True) -> Mapping[str, Variant]:
    """Read and check `variants.yaml`.

    Args:
        path: the file.
        check_objectives: False for who wants names and rows alone: objectives import torch, a second.

    Raises:
        RegroupError: a name that DVC or Snakemake cannot address, an unknown key or objective, an objective
            without what it needs, a variant without a title, nothing to train where something is named, or
            two variants that would be the same run. Which table rows exist, `regroup check` knows.
    """
    variants = parse(_File, read_yaml(path), path).variants
    faults = [
        f"{path}: variants.{second}: to Snakemake it is the same name as {first}; rename one of them"
        for first, second in same_rule(variants)
    ]
    for name, variant in variants.items():
        faults += [f"{path}: variants.{name}.{fault}" for fault in _faults(variant)]
        if check_objectives:
            faults += [f"{path}: variants.{name}.{fault}" for fault in _faults_of_objectives(variant)]
    if faults:
        raise RegroupError("\n".join(faults))
    _refuse_twins(variants, path)
    return variants


def _faults(variant: Variant) -> Iterator[str]:
    if not variant.title.strip():
        yield "title: is empty; tables and curves are labelled with it"
    if not variant.trained and variant.trainable != "nothing":
        yield "objectives: there are none, so nothing is trained; give some, or say `trainable: nothing`"


def _faults_of_objectives(variant: Variant) -> Iterator[str]:
    from regroup.objectives import needs, validate_objectives  # only here: it imports torch

    try:
        validate_objectives([(term.name, term.options) for term in variant.objectives])
    except RegroupError as error:
        yield f"objectives: {error}"
        return
    hungry = [one.name for one in variant.objectives if needs([(one.name, one.weight, one.options)]).labels]
    if hungry and (variant.labels.source == "none" or variant.labels.count == 0):
        yield f"labels: {', '.join(sorted(hungry))} needs labels: source, count"


def _refuse_twins(variants: Mapping[str, Variant], path: Path) -> None:
    """Two entries with the same science would train the same model twice."""
    seen: dict[str, str] = {}
    for name, variant in variants.items():
        science = json.dumps(variant.science)
        if science in seen:
            raise RegroupError(
                f"{path}: variants.{name} and variants.{seen[science]} are the same run; "
                "keep one entry and list the rows of both in its `rows`"
            )
        seen[science] = name
