"""What stands under a table: units, protocols, chance, and how far seeds alone may take two rows apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from regroup.metrics import Unit
from regroup.report.columns import Column, is_miou
from regroup.report.comparison import OWN, Spreads, t95
from regroup.report.reference import ReferenceTable
from regroup.report.scores import Run, chance, protocol_name, rounded

_UNITS: Mapping[Unit, str] = {
    "percent": "percent",
    "rank": "places from 1",
    "count": "pieces",
    "ratio": "parts of 1",
}


def units(printed: ReferenceTable, runs: Mapping[str, Sequence[Run]]) -> str:
    """What the values are, and in which unit."""
    others = [column for column in printed.columns if not is_miou(column)]
    said = ["mIoU in percent"] if len(others) < len(printed.columns) else []
    by_unit: dict[Unit, list[str]] = {}
    for column in others:
        found = next((value for row in runs.values() for run in row if (value := run.at(column))), None)
        if found is not None:
            by_unit.setdefault(found.metric.unit, []).append(printed.heading(column))
    if not said and len(by_unit) == 1:
        return f"Values in {_UNITS[next(iter(by_unit))]}"
    said += [f"{', '.join(headings)} in {_UNITS[unit]}" for unit, headings in by_unit.items()]
    return "; ".join(said) or "No scores yet"


def gain_notes(printed: ReferenceTable, methods: Set[str], *, drawn: bool) -> list[str]:
    """What gains are over, and what their intervals take into account; or why there are none."""
    if printed.baseline is None:
        return [f"No gains: {printed.no_baseline}."] if printed.no_baseline else []
    base = " · ".join(printed.row(printed.baseline).labels)
    ways = {
        "paired": f"from the differences of {OWN} or more common seeds",
        "blocked": "from the differences of common seeds, by the spread of such differences in all rows",
        "own": f"from the row's own {OWN} or more seeds",
        "pooled": "by the spread over seeds pooled over all rows with several",
        "same": "none, where both are the same checkpoint: no seed comes between them",
        "unknown": "not known without rows of several seeds",
    }
    how = "; ".join(text for name, text in ways.items() if name in methods)
    interval = f" ± after a gain of ours is its 95% interval: {how}." if how else ""
    others = any(row.over is not None for row in printed.rows)
    base += ", or over the row that it is compared with" if others else ""
    return [
        f"Gain: points over the row {base}."
        + (" Compare gains; scores of drawn images are on a scale of their own." if drawn else "")
        + f"{interval} ± after a score is the standard deviation over seeds."
    ]


def seed_notes(printed: ReferenceTable, spreads: Mapping[Column, Spreads]) -> list[str]:
    """How far two rows of ours may be apart by seeds alone, one run each."""
    known = {
        column: spread
        for column in printed.columns
        if column in spreads and (spread := spreads[column].seeds) is not None
    }
    if not known:
        return []
    chance = {
        column: t95(spread.freedom) * math.sqrt(2 * spread.variance) for column, spread in known.items()
    }
    values = ", ".join(f"{printed.heading(column)} {rounded(value)}" for column, value in chance.items())
    return [
        "Ours without ± is one run. By the spread of the rows with several seeds, two such runs differ by "
        f"less than this many points by chance alone (95%): {values}."
    ]


def protocol_notes(printed: ReferenceTable, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Which protocol scored each column; a column scored by several says so, since it cannot be compared."""
    same: dict[str, str] = {}
    mixed = []
    for column in printed.columns:
        every = [value for row in runs.values() for run in row if (value := run.at(column)) is not None]
        names = sorted({name for value in every if (name := protocol_name(value)) is not None})
        title = printed.heading(column)
        if len(names) > 1:
            mixed.append(
                f"{title}: rows were scored by different protocols ({', '.join(names)}); do not compare."
            )
        elif names:
            same[title] = names[0]
    if len(same) > 1 and len(set(same.values())) == 1:
        return [f"Protocol: {next(iter(same.values()))}.", *mixed]
    listed = ", ".join(f"{title} {name}" for title, name in same.items())
    return [*([f"Protocols: {listed}."] if same else []), *mixed]


def chance_notes(printed: ReferenceTable, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """What a random answer would score, of tasks that say so."""
    said = []
    for column in printed.columns:
        every = [value for row in runs.values() for run in row if (value := run.at(column)) is not None]
        found = {f"{rounded(score)}" for one in every if (score := chance(one)) is not None}
        said += [f"{printed.heading(column)} {', '.join(sorted(found))}"] if found else []
    return [f"By chance alone: {'; '.join(said)}."] if said else []
