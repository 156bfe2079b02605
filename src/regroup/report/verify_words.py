"""What `regroup verify` says: one line, a table, JSON."""

from __future__ import annotations

from collections.abc import Sequence

from regroup.report.verify import PROCESSORS, Turn, Verification


def one_line(found: Verification) -> str:
    """The answer in one line."""
    if not found.differences and not found.lost:
        scores = f"all {found.compared} scores are those of {found.against}"
    else:
        scores = f"{len(found.differences)} of {found.compared} scores differ from {found.against}"
    if found.differences:
        first = found.differences[0]
        scores += (
            f", by {abs(first.points):.2f} points at most ({first.variant} on {first.dataset}) and "
            f"{found.deviation:.2f} in root mean square: {_judgement(found)}"
        )
    parts = [scores, *([f"{len(found.lost)} missing ({found.lost[0]})"] if found.lost else [])]
    parts += [f"{found.new} not checked in"] if found.new else []
    return "; ".join([*parts, _claims(found.turns)])


def _judgement(found: Verification) -> str:
    if found.outside:
        one = found.outside[0]
        return (
            f"{len(found.outside)} OUTSIDE what seeds and processors do "
            f"({one.variant} on {one.dataset}: {one.points:+.2f}, limit {one.limit:.2f})"
        )
    if found.shifts:
        dataset, (mean, limit) = next(iter(found.shifts.items()))
        return (
            "each within what seeds do, together OUTSIDE "
            f"({dataset}: {mean:+.2f} on average, limit {limit:.2f})"
        )
    if abs(found.differences[0].points) <= PROCESSORS.largest and found.deviation <= PROCESSORS.deviation:
        return "within what another processor does"
    return "within what seeds do, more than was seen of another processor"


def _claims(turns: Sequence[Turn] | None) -> str:
    if turns is None:
        return "claims not compared"
    sides = [turn for turn in turns if turn.sides]
    if sides:
        first = sides[0]
        return f"{len(sides)} claim(s) CHANGED SIDES (table {first.table}: {first.before} -> {first.now})"
    return "no claim changed sides" + (f", {len(turns)} became more or less clear" if turns else "")


def table_lines(found: Verification) -> list[str]:
    """All differences, and the claims whose verdict changed, as aligned plain text."""
    width = max([len(one.variant) for one in found.differences] + [len("variant")])
    lines = [f"{'variant':<{width}}  {'dataset':<8} {'before':>7} {'now':>7} {'points':>7} {'limit':>6}"]
    lines += [
        f"{one.variant:<{width}}  {one.dataset:<8} {one.before:7.2f} {one.now:7.2f} {one.points:+7.2f} "
        f"{one.limit:6.2f}{'' if one.within else '  OUTSIDE'}"
        for one in found.differences
    ]
    lines += [f"missing: {name}" for name in found.lost]
    lines += [
        f"table {turn.table}: {turn.before} -> {turn.now}{', CHANGED SIDES' if turn.sides else ''}: "
        f"{turn.claim}"
        for turn in found.turns or ()
    ]
    return lines if found.differences else lines[1:]


def as_json(found: Verification) -> dict[str, object]:
    """Everything, for programs."""
    return {
        "within": found.within,
        "against": found.against,
        "compared": found.compared,
        "largest": abs(found.differences[0].points) if found.differences else 0.0,
        "root_mean_square": round(found.deviation, 4),
        "differences": [
            {
                "variant": one.variant,
                "dataset": one.dataset,
                "before": one.before,
                "now": one.now,
                "points": one.points,
                "limit": round(one.limit, 4),
                "within": one.within,
            }
            for one in found.differences
        ],
        "shifts": {
            dataset: {"mean": round(mean, 4), "limit": round(limit, 4)}
            for dataset, (mean, limit) in found.shifts.items()
        },
        "claims": None
        if found.turns is None
        else [
            {
                "table": turn.table,
                "claim": turn.claim,
                "before": turn.before,
                "now": turn.now,
                "changed_sides": turn.sides,
            }
            for turn in found.turns
        ],
        "missing": list(found.lost),
        "not_checked_in": found.new,
    }
