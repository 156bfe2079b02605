"""What a reader of the claims must know, above and below them."""

from __future__ import annotations

from collections.abc import Mapping

from regroup.drawing.labelling import table_note
from regroup.report.checked import WhatMoved
from regroup.report.columns import column_title
from regroup.report.comparison import OWN, Verdict
from regroup.report.judging import POWER
from regroup.report.scores import rounded

FIRM = "firm"
"""Of a verdict that would also stand if all claims had to be right at once."""


def claim_intro(moved: WhatMoved, counts: Mapping[Verdict, int]) -> list[str]:
    """How the claims came out, and how to read a line of them."""
    sides = [result.our_side for result in moved.results]
    total = len(sides)
    said = []
    for word, count in counts.items():
        firm = sum(side.firm for side in sides if side.verdict == word)
        said += [f"{count} {word}{f' ({firm} of them {FIRM})' if firm else ''}"] if count else []
    theirs = [one.thesis for one in moved.results if any(pair.thesis.found for pair in one.comparisons)]
    supported = [f"{theirs.count(word)} {word}" for word in counts if word in theirs]
    return [
        f"Of {total} claims, by our numbers: {', '.join(said)}. The thesis prints numbers for {len(theirs)} "
        f"of them, which by themselves say: {', '.join(supported)}.",
        "Each line is one conclusion of the thesis, in our words, and the runs that it needs. The column "
        "thesis has what its printed numbers support, given how far seeds move a score; the last column "
        "has what ours do. agree: every comparison comes out as claimed, with its whole 95% interval. "
        "disagree: at least one comes out otherwise, with its whole interval. cannot tell: chance leaves "
        "it open. missing: not all runs are there. Then: how many comparisons point the claimed way, "
        "chance aside; and the one that the verdict hangs on (the clearest against it, else the weakest), "
        "with its 95% interval and the seeds it is from.",
        f"A verdict is wrong in fewer than 5 of 100 claims. {FIRM}: it would also stand if all {total} "
        "verdicts had to be right at once (Bonferroni). How many seeds of each row would decide an open "
        "claim follows from the present effects and spreads: were these the true ones, so many would "
        f"decide it in {POWER:.0%} of cases.",
    ]


def claim_notes(moved: WhatMoved) -> list[str]:
    """How verdicts are made, and from what spread."""
    note = table_note(moved.profile, drawn=moved.drawn, printed=True)
    return [
        *([note] if note else []),
        "Claims of several comparisons: agree needs all of them, each at its full level (the weakest "
        "decides, so nothing is corrected); disagree needs one of k, so each is tested at a k-th of the "
        "level.",
        f"Similar, steady, marginal, no gain and no loss mean at most {moved.margin:g} percentage points, "
        "with the whole interval (a test of equivalence); no source gives this margin, it is a choice.",
        f"Intervals are Student's. Rows with {OWN} or more common seeds: paired, seed by seed (a seed is "
        "the order of the data too). Fewer common seeds: the same differences, by the spread that such "
        "differences have in all rows. No common seed, or a row that is not trained: the spread over "
        f"seeds pooled over all rows with several, or the row's own with {OWN} seeds or more. The thesis: "
        "the two rows of table 5. Rows scored on the same checkpoint have no seed between them. What "
        "another choice of validation images would change is in none, but where images are compared.",
        _spread(moved),
    ]


def _spread(moved: WhatMoved) -> str:
    said = []
    for column, some in moved.spreads.items():
        if some.seeds is not None:
            rest = f" ({rounded(some.blocked.variance**0.5)})" if some.blocked else ""
            said.append(f"{column_title(column)} {rounded(some.seeds.variance**0.5)}{rest}")
    if not said:
        return "No row of ours has several seeds, so no comparison of two trained models can be told."
    rows = "; ".join(map(str, moved.seeded))
    return (
        "Our standard deviation over seeds, in points, and in brackets what is left without the effect "
        f"that a seed has on all rows alike: {', '.join(said)}. It comes from {rows}; rows with one run "
        "are judged by it."
    )
