"""The claims of the thesis, with what its numbers say of each and what ours do: `what_moved.md`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from regroup.drawing.grid import Grid, write_grid
from regroup.report.checked import ClaimResult, Comparison, Outcome, WhatMoved
from regroup.report.claim_notes import FIRM, claim_intro, claim_notes
from regroup.report.columns import column_title
from regroup.report.comparison import Difference, Verdict
from regroup.report.judging import MOST_SEEDS, p_agree, p_disagree
from regroup.report.measures import ClassIoU, Early, OfImages
from regroup.report.samples import VariantRuns
from regroup.report.scores import rounded
from regroup.report.table_view import MISSING, NOT_PRINTED, gain_text

VERDICTS: tuple[Verdict, ...] = ("agree", "disagree", "cannot tell", "missing")


def write_what_moved(moved: WhatMoved, folder: Path, *, data: Path | None = None) -> list[Path]:
    """Write `what_moved.md`, `.json`, `.tex` (one line a claim) and `.csv` (one a comparison).

    `data` is a folder for all but the Markdown; by default the same. Returns their paths.
    """
    return write_grid(_grid(moved), folder / "what_moved", csv=_comparisons(moved), data=data)


def format_what_moved(moved: WhatMoved, *, width: int = 100) -> str:
    """The claims as plain text of at most `width` columns, for the terminal: three or four lines each."""
    grid = _grid(moved)
    lines = textwrap.wrap(grid.heading, width)
    lines += [line for text in grid.intro[:1] for line in textwrap.wrap(text, width)]
    for row in grid.rows:
        number, claim, section, _, theirs, ours = row
        lines += ["", *textwrap.wrap(f"{number} · {claim} ({section})", width)]
        for name, text in (("thesis", theirs), ("ours", ours)):
            lines += textwrap.wrap(f"  {name:<7} {text}", width, subsequent_indent=" " * 10)
    lines.append("")
    lines += [line for note in (*grid.intro[1:], *grid.notes) for line in textwrap.wrap(note, width)]
    return "\n".join(lines) + "\n"


def verdict_counts(moved: WhatMoved) -> dict[Verdict, int]:
    """How many claims our numbers bear out, refute, leave open, or lack the runs for; empty if none."""
    if not moved.results:
        return {}
    found = [result.ours for result in moved.results]
    return {word: found.count(word) for word in VERDICTS}


def _grid(moved: WhatMoved) -> Grid:
    ours = f"ours ({moved.profile})" if moved.drawn else "ours"
    rows = tuple(
        (
            str(result.claim.table),
            f"{result.claim.text} [{_subject(result)}]",
            result.claim.section,
            _runs(result),
            _theirs(result),
            _ours(result),
        )
        for result in moved.results
    )
    return Grid(
        heading=f"What moved ({moved.profile}): the thesis's claims on its own numbers and on ours",
        columns=("Table", "Claim", "Section", "Runs", "thesis", ours),
        rows=rows,
        texts=6,
        centimetres={1: 5.5, 2: 2.0, 3: 3.5, 4: 4.0, 5: 5.0},
        notes=tuple(claim_notes(moved)),
        intro=tuple(claim_intro(moved, verdict_counts(moved))),
    )


def _subject(result: ClaimResult) -> str:
    """What is compared, in words: datasets, classes, or another measure."""
    claim, columns = result.claim, ", ".join(map(column_title, result.claim.columns))
    match claim.measure:
        case OfImages(of="affinity_spread"):
            said = "spread of the similarities between an image's patches"
        case OfImages():
            said = "entropy of patches over groups, nats"
        case Early(share=share):
            said = f"{columns}, mean of the validation curve over the first {share:.0%} of the epochs"
        case ClassIoU(classes=classes):
            said = f"{columns}: IoU of {', '.join(name for name in classes if name not in result.absent)}"
        case None:
            said = columns
    return said


def _runs(result: ClaimResult) -> str:
    """The runs of all its rows, with the number of seeds; the .csv has the seeds."""
    sides = [runs for one in result.comparisons for runs in (one.left_runs, one.right_runs)]
    return "; ".join(dict.fromkeys(_named(runs, result, lambda one: one.brief) for runs in sides)) or MISSING


def _named(runs: Sequence[VariantRuns], result: ClaimResult, name: Callable[[VariantRuns], str] = str) -> str:
    if not runs:
        return MISSING if isinstance(result.claim.measure, OfImages) else "nothing fills it"
    return ", ".join(map(name, runs))


def _theirs(result: ClaimResult) -> str:
    if all(one.thesis.found is None for one in result.comparisons):
        return f"{NOT_PRINTED}: a figure or a remark, no numbers" if result.comparisons else MISSING
    return _side(result, result.thesis, lambda one: one.thesis)


def _ours(result: ClaimResult) -> str:
    if not result.comparisons or all(one.ours.found is None for one in result.comparisons):
        return MISSING
    side = result.our_side
    text = _side(result, side.verdict, lambda one: one.ours, firm=side.firm)
    if result.absent:
        text += f"; not in this world: {', '.join(result.absent)}"
    if side.verdict != "cannot tell":
        return text
    return f"{text}; {_what_would_decide(result)}"


def _what_would_decide(result: ClaimResult) -> str:
    found = [one.ours.found for one in result.comparisons if one.ours.found is not None]
    if isinstance(result.claim.measure, OfImages):
        return "more images would decide it"
    if seeds := result.our_side.seeds:
        return f"{seeds} seeds would decide it"
    if any(one.deviation is None for one in found):
        return "rows with several seeds would tell"
    return f"not even {MOST_SEEDS} seeds would decide it"


def _side(
    result: ClaimResult, verdict: Verdict, at: Callable[[Comparison], Outcome], *, firm: bool = False
) -> str:
    """The verdict, how many comparisons point the claimed way, and the one that it hangs on."""
    count = sum(at(one).holds for one in result.comparisons)
    text = f"{verdict}, {count} of {len(result.comparisons)}{f', {FIRM}' if firm else ''}"
    one = result.decisive(at)
    if one is None or (found := at(one).found) is None:
        return text
    place = one.part or (column_title(one.column) if one.column else "")
    words = f"{one.left} against {_share(result)}{one.right}"
    inside = ", ".join(filter(None, (words, place))) if len(result.comparisons) > 1 else ""
    how = _how(found, result)
    return f"{text}: {gain_text(found)} ({'; '.join(filter(None, (inside, how)))})"


def _share(result: ClaimResult) -> str:
    return "" if result.claim.factor == 1 else f"{result.claim.factor:g} × "


def _how(found: Difference, result: ClaimResult) -> str:
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    if isinstance(result.claim.measure, OfImages):
        return f"{found.seeds} images"
    return {
        "same": "the same checkpoint" + (f", {seeds}" if found.seeds > 1 else ""),
        "paired": f"{seeds} in common",
        "blocked": f"{seeds} in common, pooled spread",
        "pooled": f"{seeds}, pooled spread",
        "own": seeds,
        "unknown": "spread unknown",
    }[found.method]


def _comparisons(moved: WhatMoved) -> list[list[str]]:
    parts = (
        "difference",
        "interval_half_width",
        "holds",
        "verdict",
        "p_agree",
        "p_disagree",
        "seeds",
        "method",
    )
    lines = [
        ["profile", "claim", "table", "section", "left", "relation", "factor", "right", "dataset", "class"]
        + [f"{whose}_{part}" for whose in ("thesis", "ours") for part in parts]
        + ["left_runs", "right_runs", "thesis_claim_verdict", "ours_claim_verdict", "firm", "seeds_needed"]
    ]
    for result in moved.results:
        claim, side = result.claim, result.our_side
        for one in result.comparisons:
            line = [moved.profile, claim.id, str(claim.table), claim.section]
            line += [one.left, claim.relation, f"{claim.factor:g}", one.right]
            line += [one.column or NOT_PRINTED, one.part or NOT_PRINTED]
            line += [*_outcome(one.thesis, result), *_outcome(one.ours, result)]
            line += [_named(one.left_runs, result), _named(one.right_runs, result)]
            line += [result.thesis, result.ours]
            lines.append([*line, "yes" if side.firm else "no", str(side.seeds or NOT_PRINTED)])
    return lines


def _outcome(outcome: Outcome, result: ClaimResult) -> list[str]:
    found = outcome.found
    if found is None:
        return [MISSING] * 8
    relation, margin = result.claim.relation, result.margin
    return [
        f"{rounded(found.value):+}",
        NOT_PRINTED if found.half is None else str(rounded(found.half)),
        "yes" if outcome.holds else "no",
        outcome.verdict,
        f"{p_agree(found, relation, margin):.2g}",
        f"{p_disagree(found, relation, margin):.2g}",
        str(found.seeds),
        found.method,
    ]
