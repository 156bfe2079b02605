"""The study's fine-tuning runs: `variants.yaml` as typed objects.

A variant says only what the science is (which parts are trained, which labels, which objectives, for how many
epochs); how large an epoch, a batch or an image is belongs to the profile (`params.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from regroup.errors import RegroupError
from regroup.model.parts import Part
from regroup.settings import Settings, parse, read_yaml


class TableRow(Settings):
    """One row of one of the tables, by the row's id in `report/thesis.yaml`."""

    table: int = Field(ge=1)
    row: str


class LabelSettings(Settings):
    """Which labels a caption gives and how many are drawn (sections 4.1, 5.6, 5.7)."""

    source: Literal["none", "nouns", "phrases+nouns"] = "phrases+nouns"
    count: int = Field(default=5, ge=0)
    padding: Literal["caption", "null", "mask"] = "null"
    vocabulary: str | None = None


class ObjectiveSettings(Settings):
    """One term of the total loss: its name in `regroup.objectives`, its weight and its options."""

    name: str
    weight: float = 1.0
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
    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=256, ge=2)
    resolution: Literal[224, 384] = 224
    trainable: Part = "both_gbs"
    labels: LabelSettings = LabelSettings()
    objectives: tuple[ObjectiveSettings, ...] = ()
    seed: int = 123
    grouping_blocks: Literal[1, 2, 3] = 2
    last_group_tokens: int | None = Field(default=None, ge=1, le=8)
    dino_input: bool = False

    @property
    def reads_dino(self) -> bool:
        """Whether the run needs self-supervised patch features."""
        return self.dino_input or any(term.name == "dino_distillation" for term in self.objectives)

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.objectives)


class _File(Settings):
    variants: dict[str, Variant]


def load_variants(path: Path) -> Mapping[str, Variant]:
    """Read and check `variants.yaml`.

    Raises:
        RegroupError: an unknown key or objective, a table row that two variants claim with different seeds
            excluded, or two variants that would be the same run.
    """
    from regroup.objectives import validate_objectives  # only here: it imports torch, settings need not

    variants = parse(_File, read_yaml(path), path).variants
    for name, variant in variants.items():
        try:
            validate_objectives([(o.name, o.options) for o in variant.objectives])
        except RegroupError as error:
            raise RegroupError(f"{path}: variants.{name}.objectives: {error}") from None
        needs_labels = {"multi_label", "noise_free", "label_entropy", "segment_entropy"}
        used = needs_labels & {o.name for o in variant.objectives}
        if used and (variant.labels.source == "none" or variant.labels.count == 0):
            raise RegroupError(
                f"{path}: variants.{name}.labels: {', '.join(sorted(used))} needs labels: source, count"
            )
    _refuse_twins(variants, path)
    return variants


def _refuse_twins(variants: Mapping[str, Variant], path: Path) -> None:
    """Two entries with the same science would train the same model twice."""
    seen: dict[str, str] = {}
    for name, variant in variants.items():
        science = variant.model_dump_json(exclude={"title", "rows"})
        if science in seen:
            raise RegroupError(
                f"{path}: variants.{name} and variants.{seen[science]} are the same run; "
                "keep one entry and list the rows of both in its `rows`"
            )
        seen[science] = name
