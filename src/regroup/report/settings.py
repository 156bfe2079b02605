"""Settings of the report: `learning:`, `tables:` and `page:` in params.yaml, `figure:` of a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from regroup.settings import EachOnce, Name, Settings

TableNumber = Annotated[int, Field(ge=1, le=1000)]
Point = Annotated[float, Field(ge=-1e9, le=1e9)]
Text = Annotated[str, Field(min_length=1)]
LEAST_SPOKES, MOST_POLYGONS = 3, 8
"""Columns and rows of a radar: two columns make no area, more rows cannot be told apart."""


class TablesParams(Settings):
    """Which tables of the study are printed; None: all."""

    numbers: Annotated[tuple[TableNumber, ...], EachOnce] | None = None


class PageParams(Settings):
    """The report's page: pictures of more than `webp_above_kb` go into it as WebP of `webp_quality`."""

    webp_above_kb: int = Field(default=150, ge=0, le=1_000_000)
    webp_quality: int = Field(default=88, ge=1, le=100)


class TableFigure(Settings):
    """How a table is drawn too, for those who would rather look than read; its key `figure`.

    `dots`: rows one below the other, a panel a column; for any number of rows. `lines`: the columns are
    `points` of an axis, e.g. 1, 2, 4 ... images a class; where there are several times as many columns as
    points, they are that many panels, one behind the other. `radar`: a polygon a row, for a few rows.
    """

    kind: Literal["dots", "lines", "radar"]
    columns: Annotated[tuple[Text, ...], EachOnce] | None = Field(
        default=None, min_length=1, description="of the table, those that are drawn; None: all"
    )
    rows: Annotated[tuple[Text, ...], EachOnce] | None = Field(
        default=None, min_length=1, description="likewise, by their ids"
    )
    points: Annotated[tuple[Point, ...], EachOnce] | None = Field(default=None, min_length=1)
    axis: Text | None = Field(default=None, description="what the points are")
    panels: tuple[Text, ...] = Field(default=(), description="titles of the panels of `lines`")

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_the_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _points_are_of_lines(self) -> Self:
        if self.kind != "lines":
            if given := [key for key in ("points", "axis", "panels") if getattr(self, key)]:
                raise ValueError(f"{given[0]}: is for `kind: lines` alone")
        elif self.points is None or self.axis is None:
            raise ValueError(
                "`kind: lines` needs `points`, a number for each column, and `axis`: what they are"
            )
        elif any(one > other for one, other in pairwise(self.points)):
            raise ValueError(f"points: must increase, and are {list(self.points)}")
        return self

    def check(self, columns: Sequence[str], rows: Sequence[str]) -> None:
        """Hold it against the columns and rows of its table.

        Raises:
            ValueError: there is no such column or row, or what is drawn cannot be read so.
        """
        for key, named, known in (("columns", self.columns, columns), ("rows", self.rows, rows)):
            if unknown := [name for name in named or () if name not in known]:
                raise ValueError(
                    f"figure.{key}: the table has no {', '.join(unknown)}; it has {', '.join(known)}"
                )
        wide, high = len(self.columns or columns), len(self.rows or rows)
        if self.kind == "radar" and (wide < LEAST_SPOKES or high > MOST_POLYGONS):
            raise ValueError(
                f"figure: a radar has {LEAST_SPOKES} or more columns and at most {MOST_POLYGONS} rows, here "
                f"{wide} and {high}: name some of them with `columns` and `rows`, or take `dots`"
            )
        if self.points is None:
            return
        in_table = [name for name in columns if name in (self.columns or columns)]
        if list(self.columns or columns) != in_table:
            raise ValueError(
                "figure.columns: points go by the table's order; name the columns in it: "
                + ", ".join(in_table)
            )
        panels, rest = divmod(wide, len(self.points))
        if rest or not panels:
            raise ValueError(f"figure.points: {len(self.points)} for {wide} columns; give one for each")
        if (panels > 1 or self.panels) and len(self.panels) != panels:
            raise ValueError(f"figure.panels: {wide} columns are {panels} panels; give each its title")


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
