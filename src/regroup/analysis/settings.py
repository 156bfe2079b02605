"""Settings of the dissection (`dissect:` in params.yaml) and of the figures (`figures:`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from regroup.settings import EachOnce, Name, Settings

Neighbours = Annotated[int, Field(ge=1, le=10_000)]


class DissectParams(Settings):
    """Grouping and alignment, each on its own (section 5.4): for which variants, on which datasets."""

    variants: Annotated[tuple[Name, ...], EachOnce] = Field(
        default=("original",), min_length=1, description="the first: Tables 1, 2"
    )
    datasets: Annotated[tuple[Name, ...], EachOnce] = Field(
        default=("voc",), description="of `evaluate.segmentation.datasets`"
    )
    neighbours: Annotated[tuple[Neighbours, ...], EachOnce] = Field(
        default=(5, 10, 15, 25), min_length=1, description="K of Table 2"
    )
    chosen: Neighbours = Field(default=10, description="K of Table 1")
    features_per_class: int = Field(
        default=1000, ge=1, le=1_000_000, description="most features of a class in the bank"
    )

    @model_validator(mode="after")
    def _chosen_is_one(self) -> DissectParams:
        if self.chosen not in self.neighbours:
            raise ValueError(f"`chosen` is {self.chosen}, which is not among `neighbours`")
        return self


class FigureParams(Settings):
    """Which variants the figures compare, in what images.

    The first six name variants by the part they play in the thesis; two parts may name the same variant.
    """

    pretrained: Name = Field(description="the start of all others (Figures 1 to 10, 12, 23)")
    fine_tuned: Name = Field(description="refined labels, 224 px (Figures 4, 5, 13)")
    group_entropy: Name = Field(description="with the group entropy penalty (Figures 11, 14, 16)")
    unpenalised: Name = Field(description="that run without the penalty (the claim about Figure 14)")
    label_entropy: Name = Field(description="with the label entropy penalty (Figure 15)")
    baseline: Name = Field(description="the final model (Figures 17 to 22, 25 to 27)")
    datasets: Annotated[tuple[Name, ...], EachOnce] = Field(
        min_length=1, description="of the qualitative panels"
    )
    images: int = Field(default=2, ge=1, le=100, description="rows of each of them")
    dissected: Name | None = Field(
        description="dataset of Figures 1, 6, 7, 9, 10, 12, 14, 15 and 23; null: none"
    )
    compared: Annotated[tuple[Name, ...], EachOnce] = Field(
        description="datasets of the class by class Figures 18 to 22"
    )
    points: int = Field(default=600, ge=10, le=100_000, description="most segments in a panel of Figure 20")

    @property
    def variants(self) -> tuple[str, ...]:
        """All that are named, each once."""
        parts = (
            self.pretrained,
            self.fine_tuned,
            self.group_entropy,
            self.unpenalised,
            self.label_entropy,
            self.baseline,
        )
        return tuple(dict.fromkeys(parts))

    @property
    def every_dataset(self) -> tuple[str, ...]:
        """All that are named, each once."""
        dissected = () if self.dissected is None else (self.dissected,)
        return tuple(dict.fromkeys((*self.datasets, *self.compared, *dissected)))
