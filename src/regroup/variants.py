"""A study's fine-tuning runs as typed objects: the entries of its `variants.yaml`.

A variant says only what the science is (which parts are trained, which labels, which objectives, for how many
epochs); how large an epoch, a batch or an image is belongs to the profile (`params.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from regroup.adaptation import ADAPTATIONS
from regroup.adaptation.parts import Part
from regroup.captions.settings import Fallback, LabelSource
from regroup.heads import HEADS
from regroup.model.constants import Padding
from regroup.objectives import OBJECTIVES, Need, Term, needs
from regroup.plugins import Room, Use
from regroup.seeds import FIRST_SEED
from regroup.settings import EachOnce, Name, Seed, Settings
from regroup.study import TableRow
from regroup.training.settings import BatchNormSettings


class LabelSettings(Settings):
    """Which labels a caption gives and how many are drawn (sections 4.1, 5.6, 5.7).

    `source`: `nouns`, `phrases+nouns`, `published_phrases+nouns` (the phrases that the study's published code
    finds) or `none`. `vocabulary` restricts nouns to one of the profile's `nouns.vocabularies`, never
    phrases. `fallback` says when a caption's other nouns are used after all: all of them where none is left,
    or as many as there are places where too few are.
    """

    source: LabelSource = "phrases+nouns"
    count: int = Field(default=5, ge=0, le=64)
    padding: Padding = "null"
    vocabulary: Name | None = None
    fallback: Fallback = "none_left"

    @model_validator(mode="after")
    def _a_vocabulary_is_of_labels(self) -> LabelSettings:
        if self.vocabulary is not None and self.source == "none":
            raise ValueError("`vocabulary` chooses among labels, of which `source: none` has none")
        if self.fallback == "too_few" and self.vocabulary is None:
            raise ValueError(
                "`fallback: too_few` fills up a curated `vocabulary`, and there is none; name one"
            )
        return self


ROOMS: Mapping[str, Room] = {"objectives": OBJECTIVES, "adapt": ADAPTATIONS, "heads": HEADS}
"""The fields of a variant that list plugins, and where those lie."""


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000), EachOnce]
"""What runs that are otherwise the same draw from."""
_SEED = TypeAdapter[int](Seed)


class Variant(Settings):
    """One experiment: a fine-tuning run for each of its seeds, the first of which stands for it.

    `batch` and `resolution` are the study's own numbers (images of the global batch; pixels): the profile
    maps them to what it can afford. No objective means no training: the checkpoint is scored as it is.
    `grouping_blocks` other than 2 re-stage the model (section 5.13), `last_group_tokens` (of the study's 8)
    cuts the last block's; with `dino_input` the second block groups DINO's features (section 5.14.2).
    `adapt` lists what is trained of the model, added to it or changed in it, in order (`regroup.adaptation`);
    `trainable: PART` is short for `parts` alone, and what is read has only the list (`both_gbs` by default).
    `heads` are trained beside the model, for the objectives that ask for them (`regroup.heads`).
    `checkpoint` is one of the profile's `checkpoints` to start from in place of its `checkpoint`. `optimiser`
    and `augmentation` replace single values of the profile's `finetune`. `batch_norm` is that of the
    projectors. `seed: N` is short for `seeds: [N]`.
    """

    title: str
    rows: tuple[TableRow, ...] = ()
    epochs: int = Field(default=30, ge=1, le=100_000)
    batch: int = Field(default=256, ge=2, le=1_048_576)
    resolution: Literal[224, 384] = 224
    trainable: Part | None = Field(default=None, exclude=True)
    adapt: tuple[Use, ...] = ()
    heads: tuple[Use, ...] = ()
    labels: LabelSettings = LabelSettings()
    objectives: tuple[Term, ...] = ()
    batch_norm: BatchNormSettings = BatchNormSettings()
    seeds: Seeds = (FIRST_SEED,)
    seed_alone: Seed | None = Field(default=None, alias="seed", exclude=True)
    checkpoint: Name | None = None
    grouping_blocks: Literal[1, 2, 3] = 2
    last_group_tokens: int | None = Field(default=None, ge=1, le=8)
    dino_input: bool = False
    optimiser: dict[str, Any] = Field(default_factory=dict)
    augmentation: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _seed_is_short_for_seeds(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("seed") is None:
            return values
        if "seeds" in values:
            raise ValueError("`seed: N` is short for `seeds: [N]`; give one of the two")
        try:
            seed = _SEED.validate_python(values["seed"], strict=True)
        except ValidationError:
            return values  # `seed` itself will be found to be at fault
        return {**{key: value for key, value in values.items() if key != "seed"}, "seeds": [seed]}

    @model_validator(mode="before")
    @classmethod
    def _trainable_is_short_for_adapt(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        part = values.get("trainable")
        if "adapt" in values:
            if part is not None:
                raise ValueError(
                    "`trainable` is short for an `adapt` of `parts` alone; give one of the two, or list "
                    f"`{{name: parts, options: {{train: {part}}}}}` in `adapt` too"
                )
            return values
        if part == "nothing":
            return {**values, "adapt": []}
        train = "both_gbs" if part is None else part
        return {**values, "adapt": [{"name": "parts", "options": {"train": train}}]}

    @model_validator(mode="after")
    def _parts_fit(self) -> Variant:
        if self.objectives and not self.adapt and not self.heads:
            raise ValueError("`trainable: nothing` leaves nothing to its `objectives`; drop one of the two")
        trains = [use for use in self.adapt if (use.name, use.options.get("train")) != ("parts", "nothing")]
        if self.objectives and not trains and not self.heads:
            raise ValueError(
                "adapt: `train: nothing` leaves nothing to the `objectives`; drop one of the two"
            )
        if self.objectives and not any(term.weight for term in self.objectives):
            raise ValueError("objectives: every weight is 0, so there is nothing to minimise")
        if self.batch_norm.padding and (not self.labelled or self.labels.padding == "caption"):
            raise ValueError(
                "`batch_norm.padding` is of empty label places, and this run has none; drop it, or see "
                "`labels.padding`"
            )
        if self.dino_input and self.grouping_blocks == 1:
            raise ValueError("`dino_input` feeds the second grouping block, and `grouping_blocks` is 1")
        return self

    @property
    def labelled(self) -> bool:
        """Whether its captions have places for labels."""
        return self.labels.source != "none" and self.labels.count > 0

    @property
    def seed(self) -> int:
        """The seed of the one run, or the first of several."""
        return self.seeds[0]

    def of_seed(self, seed: int) -> Variant:
        """The one run with this seed."""
        return self.model_copy(update={"seeds": (seed,)})

    @property
    def reads_dino(self) -> bool:
        """Whether the run needs self-supervised patch features; imports its objectives."""
        return self.dino_input or Need.DINO in needs(self.objectives)

    @property
    def regroups(self) -> bool:
        """Whether it starts as another model than its checkpoint's, which was not trained to group so."""
        return self.grouping_blocks != 2 or self.last_group_tokens is not None or self.dino_input

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.objectives)

    @property
    def plugins(self) -> tuple[tuple[Room, Use], ...]:
        """Every plugin that the run uses, with its room."""
        return tuple((room, use) for field, room in ROOMS.items() for use in getattr(self, field))

    @property
    def science(self) -> dict[str, Any]:
        """What the run computes, every default filled in, as plain values: no title and no rows.

        Where nothing is trained, nothing else of the variant is used.
        """
        unused = (
            {"title", "rows"} if self.trained else set(type(self).model_fields) - {"objectives", "checkpoint"}
        )
        return self.model_dump(mode="json", exclude=unused)


def code_digests(variant: Variant) -> dict[str, str]:
    """Digests of the code of every plugin that a run uses, by room and name: `objectives.contrastive`."""
    return {
        f"{room.key}.{use.name}": room.digest(use.name)
        for room, use in sorted(variant.plugins, key=lambda plugin: (plugin[0].key, plugin[1].name))
    }
