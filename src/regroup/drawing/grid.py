"""A grid of ready-made strings as CSV, JSON, Markdown, LaTeX and plain text, always in the same bytes."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from regroup.errors import RegroupError
from regroup.io import read_json, write_text


@dataclass(frozen=True)
class Grid:
    """Strings in rows.

    `groups` are headings over several columns (text, number of columns; empty text: none); the first `texts`
    columns are text, the others numbers. In LaTeX, a text column of long lines gets the width that
    `centimetres` gives for its position and is wrapped. `intro` are paragraphs that stand above the table.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int
    centimetres: Mapping[int, float] = field(default_factory=dict)
    groups: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    intro: tuple[str, ...] = ()


def write_grid(
    grid: Grid, stem: Path, *, csv: Sequence[Sequence[str]], data: Path | None = None
) -> list[Path]:
    """Write `stem`.csv (the lines of `csv`), .json (the grid itself), .md and .tex; return their paths.

    `data` is a folder for all but the Markdown, which is what people read; by default they lie together.
    """
    contents = {".csv": csv_text(csv), ".json": _json(grid), ".md": markdown(grid), ".tex": latex(grid)}
    paths = []
    for suffix, content in contents.items():
        folder = stem.parent if data is None or suffix == ".md" else data
        path = folder / f"{stem.name}{suffix}"
        write_text(path, content)
        paths.append(path)
    return paths


def read_grid(path: Path) -> Grid:
    """Read the grid that `write_grid` left in a .json file.

    Raises:
        RegroupError: the file is missing, or is no grid.
    """
    try:
        return TypeAdapter(Grid).validate_python(read_json(path), strict=False)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise RegroupError(f"{path}: {key}: {fault['msg']}; run the stage `tables` again") from None


def _json(grid: Grid) -> str:
    """One row a line, so that a changed score is a changed line."""
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in grid.rows)
    parts = {"heading": grid.heading, "groups": grid.groups, "columns": grid.columns, "texts": grid.texts}
    lines = [f'  "{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in parts.items()]
    lines += [f'  "rows": [\n{rows}\n  ]']
    texts = {"intro": grid.intro} if grid.intro else {}
    lines += [
        f'  "{name}": {json.dumps(some, ensure_ascii=False)}'
        for name, some in (texts | {"notes": grid.notes}).items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """Comma-separated values (RFC 4180 quoting, Unix line ends)."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def markdown(grid: Grid) -> str:
    """A Markdown table with its heading above and its notes below.

    Markdown has one heading row, so a group's text stands before each of its columns.
    """
    names = iter(grid.columns)
    columns = [
        f"{text} {name}" if text else name
        for text, count in grid.groups or (("", len(grid.columns)),)
        for name in (next(names) for _ in range(count))
    ]
    rules = ["---"] * grid.texts + ["---:"] * (len(columns) - grid.texts)
    lines = [f"**{markdown_text(grid.heading)}**", ""]
    lines += [line for text in grid.intro for line in (markdown_text(text), "")]
    lines += [f"| {' | '.join(map(markdown_text, cells))} |" for cells in (columns, rules, *grid.rows)]
    if grid.notes:
        lines += ["", *(f"- {markdown_text(note)}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def latex(grid: Grid) -> str:
    r"""A `tabular` to `\input`; needs the package booktabs.

    Heading and notes stand around the table proper, in an outer `tabular` of one column, so that they travel
    with it and do not stretch its columns.
    """
    width = len(grid.columns)
    alignments = {k: rf"p{{{size:g}cm}}" for k, size in grid.centimetres.items()}
    specification = "".join(alignments.get(k, "l" if k < grid.texts else "r") for k in range(width))
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{@{}l@{}}",
        rf"\textbf{{{_tex(grid.heading)}}} \\[2pt]",
        *(rf"{_tex(line)} \\" for text in grid.intro for line in textwrap.wrap(text, 110)),
        rf"\begin{{tabular}}{{@{{}}{specification}@{{}}}}",
        r"\toprule",
    ]
    if grid.groups:
        cells, rules, column = [], [], 1
        for text, count in grid.groups:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_tex(text)}}}" if text else "& " * (count - 1))
            if text:
                rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
            column += count
        lines += [" & ".join(cells) + r" \\", "".join(rules)]
    lines += [" & ".join(map(_tex, grid.columns)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(_tex, row)) + r" \\" for row in grid.rows]
    lines += [r"\bottomrule", r"\end{tabular} \\"]
    lines += [rf"\footnotesize {_tex(line)} \\" for note in grid.notes for line in textwrap.wrap(note, 110)]
    lines.append(r"\end{tabular}")
    return "\n".join(lines) + "\n"


def console(
    heading: str,
    head: Sequence[Sequence[str]],
    body: Sequence[Sequence[Sequence[str]]],
    notes: Sequence[str],
    *,
    width: int,
) -> str:
    """Plain text of at most `width` columns.

    A cell is a sequence of lines. The first column is text and gets what the others leave (at least 12
    columns), wrapped; the others are right-aligned.
    """
    widths = [max(len(line) for row in (head, *body) for line in row[k]) for k in range(1, len(head))]
    room = max(12, width - sum(widths) - 2 * len(widths))
    wrapped = [[_wrap(row[0], room), *row[1:]] for row in (head, *body)]
    first = max(len(line) for row in wrapped for line in row[0])
    lines = textwrap.wrap(heading, width)
    for number, row in enumerate(wrapped):
        for k in range(max(map(len, row))):
            texts = [cell[k] if k < len(cell) else "" for cell in row]
            numbers = [f"{text:>{size}}" for text, size in zip(texts[1:], widths, strict=True)]
            lines.append("  ".join([f"{texts[0]:<{first}}", *numbers]).rstrip())
        if number == 0:
            lines.append("-" * (first + sum(widths) + 2 * len(widths)))
    lines += [line for note in notes for line in textwrap.wrap(note, width)]
    return "\n".join(lines) + "\n"


def _wrap(lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in (textwrap.wrap(line, width) or [""])]


def markdown_text(text: str) -> str:
    """Text for Markdown, a table's cell included: nothing in it is a mark-up, HTML or mathematics."""
    return re.sub(r"[\\|<$*`]", r"\\\g<0>", " ".join(text.splitlines()))


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "−": r"$-$",
}


def _tex(text: str) -> str:
    """Text for LaTeX; a number's minus sign becomes a real one."""
    if re.fullmatch(r"[+-]\d+\.\d+", text):
        return f"${text}$"
    escaped = "".join(_TEX.get(character, character) for character in " ".join(text.splitlines()))
    # after a line's `\\\\`, a bracket would be read as the space to leave, and a star as a page to keep
    return f"{{}}{escaped}" if escaped.lstrip().startswith(("[", "*")) else escaped
