"""From a report's folder to the page: what the same dvc.lock always gives in the same bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from regroup.drawing.grid import Grid, read_grid
from regroup.drawing.labelling import OPENMOJI, table_note
from regroup.metrics import metrics_files
from regroup.report.page.curves import HEIGHT, WIDTH, Curve, read_curve
from regroup.report.page.pictures import TABLES, Picture, read_pictures, table_picture
from regroup.report.reference import Reference
from regroup.report.settings import PageParams

CLAIMS = "what_moved"
FACTS = "<!-- facts of a run -->"
"""Where `write_index` puts the pipeline and what is true of one run on one machine alone."""
MISSING = "missing"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, what it is sorted by, a word for its look, and what stands behind a badge."""

    text: str
    sort: str
    kind: str
    rest: str = ""


@dataclass(frozen=True)
class ShownTable:
    """A grid for the page."""

    id: str
    grid: Grid
    groups: tuple[tuple[str, int], ...]
    rows: tuple[tuple[Cell, ...], ...]
    filled: int
    """Rows in which nothing is missing."""
    picture: Picture | None
    """The same as a figure, where its study asks for one."""


def build_page(
    report: Path,
    *,
    profile: str,
    drawn: bool,
    settings: PageParams,
    params_file: Path,
    titles: Mapping[str, str],
    reference: Reference,
) -> str:
    """The page of a report, without the facts of a run.

    Args:
        report: `reports/<profile>`, with `table_data/*.json` (and their figures, `.png`), curves and figures
            `*/NAME.png`; whatever is there is shown.
        profile: its name.
        drawn: whether its data is drawn; a warning and the glyphs' attribution then stand on the page.
        settings: how pictures go in.
        params_file: the profile's parameters, for the commands.
        titles: of the variants, by their names.
        reference: the study's tables: what it is about, and which table stands first.

    Raises:
        RegroupError: a file of the report that cannot be read; the message names it.
    """
    tables = {path.stem: _table(path, report, settings) for path in sorted((report / TABLES).glob("*.json"))}
    claims = tables.pop(CLAIMS, None)
    main = tables.get(f"table{reference.main:02}" if reference.main else "") or next(
        iter(tables.values()), None
    )
    curves = _curves(report, titles)
    pipeline = params_file.with_name("dvc.yaml")
    return (
        environment()
        .get_template("page.html")
        .render(
            profile=profile,
            drawn=drawn,
            about=reference.about,
            note=table_note(profile, drawn=drawn, printed=any(table.printed for table in reference.tables)),
            openmoji=OPENMOJI,
            main=main,
            claims=claims,
            verdicts=_verdicts(claims),
            tables=[table for table in tables.values() if table is not main],
            all_tables=list(tables.values()),
            pictures=read_pictures(report, settings),
            curves=curves,
            variants=titles,
            chart=(WIDTH, HEIGHT),
            default=params_file == Path("params.yaml"),
            params_file=params_file.as_posix(),
            pipeline=pipeline.as_posix(),
            facts=Markup(FACTS),
            style=_asset("page.css"),
            script=_asset("page.js"),
        )
    )


def environment() -> Environment:
    """Templates of the page: everything is escaped, a name that is not given is an error."""
    found = Environment(
        loader=PackageLoader("regroup.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["short"] = lambda value: f"{value:.4g}"
    return found


def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _table(path: Path, report: Path, settings: PageParams) -> ShownTable:
    grid = read_grid(path)
    rows = tuple(
        tuple(_cell(text, number=k >= grid.texts, claim=path.stem == CLAIMS) for k, text in enumerate(row))
        for row in grid.rows
    )
    filled = sum(all(cell.kind != MISSING for cell in row) for row in rows)
    picture = table_picture(path, grid.heading, report, settings)
    return ShownTable(path.stem, grid, grid.groups, rows, filled, picture)


def _cell(text: str, *, number: bool, claim: bool) -> Cell:
    words = ("agree", "disagree", "cannot tell", MISSING)
    verdict = next((word for word in words if text == word or text.startswith(f"{word}, ")), None)
    if verdict and (claim or verdict == MISSING):
        sort = "" if text == MISSING else text
        return Cell(verdict, sort, verdict.replace(" ", "-"), text[len(verdict) :].lstrip(", "))
    found = re.match(r"[+-]?\d+(\.\d+)?", text)
    if found and (number or found[0] == text):
        kind = "up" if text.startswith("+") else "down" if text.startswith("-") else ""
        return Cell(text, found[0], kind if number and not _by_chance(text) else "")
    return Cell(text, text.lower(), "")


def _by_chance(text: str) -> bool:
    """Whether zero is within the interval of a difference: `+0.39 ± 1.58` is no gain to be shown in green."""
    found = re.fullmatch(r"[+-](\d+\.\d+) ± (\d+\.\d+)", text)
    return found is not None and float(found[1]) <= float(found[2])


def _verdicts(claims: ShownTable | None) -> dict[str, int]:
    """How many claims our numbers bear out, refute, leave open, or lack the runs for."""
    if claims is None:
        return {}
    found = Counter(row[-1].text.partition(",")[0] for row in claims.rows)
    return {word: found[word] for word in ("agree", "disagree", "cannot tell", MISSING)}


def _curves(report: Path, titles: Mapping[str, str]) -> list[Curve]:
    """The loss of every run and what it scored meanwhile, task by task; in the order of the variants."""
    order = {name: k for k, name in enumerate(titles)}
    losses = {path.stem: path for path in (report / "curves").glob("*.csv")}
    scores: dict[str, list[list[Path]]] = {}
    for path in sorted((report / "metrics").glob("*/*/validation.csv")):
        seeds = [file.with_name(path.name) for file in metrics_files(path.parent)]
        scores.setdefault(path.parent.name, []).append([file for file in seeds if file.is_file()])
    runs = sorted({*losses, *scores}, key=lambda name: (order.get(name, len(order)), name))
    found = (
        read_curve(name, titles.get(name, name), losses.get(name), scores.get(name, ())) for name in runs
    )
    return [curve for curve in found if curve is not None]
