"""Settings of the report (`learning:`, `tables:` and `page:` in params.yaml)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from regroup.settings import EachOnce, Name, Settings

TableNumber = Annotated[int, Field(ge=1, le=1000)]
Text = Annotated[str, Field(min_length=1)]


class TablesParams(Settings):
    """Which tables of the study are printed; None: all."""

    numbers: Annotated[tuple[TableNumber, ...], EachOnce] | None = None


class PageParams(Settings):
    """The report's page: pictures of more than `webp_above_kb` go into it as WebP of `webp_quality`."""

    webp_above_kb: int = Field(default=150, ge=0, le=1_000_000)
    webp_quality: int = Field(default=88, ge=1, le=100)


class CurvePanel(Settings):
    """A panel of the validation curves: its lines, each the mean of some variants (seeds of one)."""

    title: Text
    lines: dict[Text, Annotated[tuple[Name, ...], Field(min_length=1), EachOnce]] = Field(min_length=1)


class LearningParams(Settings):
    """Validation curves (Figure 24) on one dataset of `evaluate.segmentation.validation`."""

    dataset: Name
    start: Name = Field(description="variant that all others start from")
    panels: tuple[CurvePanel, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _titles_tell_apart(self) -> LearningParams:
        titles = [panel.title for panel in self.panels]
        if twice := [title for k, title in enumerate(titles) if title in titles[:k]]:
            raise ValueError(f"panels: two are called {twice[0]!r}")
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """All that are named, each once."""
        return tuple(
            dict.fromkeys(
                [
                    self.start,
                    *(name for panel in self.panels for line in panel.lines.values() for name in line),
                ]
            )
        )
