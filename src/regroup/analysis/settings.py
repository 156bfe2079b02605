"""Settings of the dissection (`dissect:` in params.yaml) and of the figures (`figures:`)."""

from __future__ import annotations

from pydantic import Field, model_validator

from regroup.settings import Settings


class DissectParams(Settings):
    """Grouping and alignment, each on its own (section 5.4): for which variants, on which datasets."""

    variants: tuple[str, ...] = Field(
        default=("original",), min_length=1, description="the first: Tables 1, 2"
    )
    datasets: tuple[str, ...] = Field(default=("voc",), description="of `evaluate.datasets`")
    neighbours: tuple[int, ...] = Field(default=(5, 10, 15, 25), min_length=1, description="K of Table 2")
    chosen: int = Field(default=10, ge=1, description="K of Table 1")
    features_per_class: int = Field(default=1000, ge=1, description="most features of a class in the bank")

    @model_validator(mode="after")
    def _chosen_is_one(self) -> DissectParams:
        if min(self.neighbours) < 1:
            raise ValueError("`neighbours` must be 1 or more")
        if self.chosen not in self.neighbours:
            raise ValueError(f"`chosen` is {self.chosen}, which is not among `neighbours`")
        return self
