"""The table "what moved": the claims of the thesis, with what its numbers say of each and what ours do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from regroup.drawing.grid import Grid, console, write_grid
from regroup.drawing.labelling import table_note
from regroup.report.claims import ClaimResult, Outcome, WhatMoved
from regroup.report.columns import column_title
from regroup.report.comparison import Verdict, overall
from regroup.report.scores import rounded
from regroup.report.tables import MISSING, NOT_PRINTED


def write_what_moved(moved: WhatMoved, folder: Path, *, data: Path | None = None) -> list[Path]:
    """Write `what_moved.md`, `.json`, `.tex` (one line a claim) and `.csv` (one a comparison).

    `data` is a folder for all but the Markdown; by default the same. Returns their paths.
    """
    return write_grid(_grid(moved), folder / "what_moved", csv=_comparisons(moved), data=data)


def format_what_moved(moved: WhatMoved, *, width: int = 100) -> str:
    """The table as aligned plain text of at most `width` columns, for the terminal."""
    grid = _grid(moved)
    head = [[f"{grid.columns[0]} · {grid.columns[1]}"], *([name] for name in grid.columns[2:])]
    body = [[[f"{row[0]} · {row[1]}"], *([cell] for cell in row[2:])] for row in grid.rows]
    return console(grid.heading, head, body, grid.notes, width=width)


def verdict_counts(moved: WhatMoved) -> dict[Verdict, int]:
    """How many claims our numbers bear out, refute, leave open, or lack the runs for; empty if none."""
    if not moved.results:
        return {}
    found = [result.ours for result in moved.results]
    words: tuple[Verdict, ...] = ("agree", "disagree", "cannot tell", "missing")
    return {word: found.count(word) for word in words}


def _grid(moved: WhatMoved) -> Grid:
    ours = f"ours ({moved.profile})" if moved.drawn else "ours"
    rows = []
    for result in moved.results:
        columns = ", ".join(map(column_title, result.claim.columns))
        theirs = _cell(result, [comparison.thesis for comparison in result.comparisons])
        mine = _cell(result, [comparison.ours for comparison in result.comparisons])
        rows.append((str(result.claim.table), f"{result.claim.text} [{columns}]", theirs, mine))
    return Grid(
        heading=f"What moved ({moved.profile}): the thesis's claims on its own numbers and on ours",
        columns=("Table", "Claim", "thesis", ours),
        rows=tuple(rows),
        texts=4,
        centimetres={1: 11.0},
        notes=tuple(_notes(moved)),
    )


def _cell(result: ClaimResult, outcomes: Sequence[Outcome]) -> str:
    """The verdict, and how many of the comparisons point the claimed way, seeds aside."""
    there = [outcome for outcome in outcomes if outcome.found is not None]
    if not there:
        return MISSING
    holds = sum(outcome.holds for outcome in there)
    return f"{overall([outcome.verdict for outcome in outcomes])}, {holds} of {len(outcomes)}"


def _notes(moved: WhatMoved) -> list[str]:
    known = {column: spread for column, spread in moved.spreads.items() if spread is not None}
    note = table_note(moved.profile, drawn=moved.drawn, printed=True)
    texts = [
        "A claim is one or more comparisons of two rows on a dataset; the count says how many of them come "
        "out as claimed, seeds aside.",
        "agree: all of them do, with the whole 95% interval of the difference. disagree: at least one does "
        "not, with its whole interval. cannot tell: the spread of seeds leaves it open. missing: not all "
        "runs are there.",
        f"Similar, steady, marginal, no gain and no loss mean at most {moved.margin:g} percentage points; "
        "no source gives this margin, it is a choice.",
        "The interval is Student's, from the spread over seeds pooled over all rows with several seeds "
        "(thesis: the two rows of table 5). Rows scored on the same checkpoint have no seed between them and "
        "are compared directly. What another choice of validation images would change is in neither.",
    ]
    if known:
        values = ", ".join(
            f"{column_title(column)} {rounded(spread.variance**0.5)}" for column, spread in known.items()
        )
        rows = "; ".join(map(str, moved.seeded))
        texts.append(
            f"Our standard deviation over seeds, in points: {values}. It comes from {rows}; rows with one "
            "run are judged by it."
        )
    else:
        texts.append("No row of ours has several seeds, so no comparison of two trained models can be told.")
    return [*([note] if note else []), *texts]


def _comparisons(moved: WhatMoved) -> list[list[str]]:
    parts = ("difference", "interval_half_width", "holds", "verdict")
    lines = [
        ["profile", "claim", "table", "section", "left", "relation", "right", "dataset"]
        + [f"{whose}_{part}" for whose in ("thesis", "ours") for part in parts]
        + ["thesis_claim_verdict", "ours_claim_verdict"]
    ]
    for result in moved.results:
        claim = result.claim
        for one in result.comparisons:
            left, right = (f"{ref.table}/{ref.row}" for ref in (one.left, one.right))
            line = [moved.profile, claim.id, str(claim.table), claim.section]
            line += [left, claim.relation, right, one.column]
            lines.append([*line, *_outcome(one.thesis), *_outcome(one.ours), result.thesis, result.ours])
    return lines


def _outcome(outcome: Outcome) -> list[str]:
    if outcome.found is None:
        return [MISSING] * 4
    half = outcome.found.half
    return [
        f"{rounded(outcome.found.value):+}",
        NOT_PRINTED if half is None else str(rounded(half)),
        "yes" if outcome.holds else "no",
        outcome.verdict,
    ]
