"""What the captions name: the rank-frequency curve, the most frequent nouns, doubtful ones, noun phrases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from regroup.captions.labels import FREQUENCY
from regroup.captions.table import LABELS, LabelTable, Ragged
from regroup.drawing import style
from regroup.drawing.figures import Caption, save_figure
from regroup.drawing.grid import Grid, write_grid
from regroup.drawing.labelling import table_note
from regroup.errors import RegroupError
from regroup.io import read_json

_COLUMNS = ("noun", "count", "occurrences", "lower_case")
EXAMPLES = ("twice", "exact", "Jonas", "TYPING")
"""Words that section 5.7.1 found among the nouns, none of them an entity."""

_RARELY = 0.25  # of a word's occurrences are tagged as a noun, or fewer: probably mistakes


@dataclass(frozen=True)
class Noun:
    """A noun: how often it was tagged as one; how often the word occurs, as it is and in lower case."""

    text: str
    count: int
    occurrences: int
    lower_case: int


@dataclass(frozen=True)
class Suspicion:
    """A noun and why it may be no entity (section 5.7.1: "twice", "exact", "Jonas", "TYPING")."""

    noun: Noun
    reason: str


def read_nouns(captions: Path) -> list[Noun]:
    """Nouns of `noun_frequency.parquet`, most frequent first.

    Raises:
        RegroupError: the file is missing.
    """
    path = captions / FREQUENCY
    if not path.is_file():
        raise RegroupError(f"{path}: no such file; run the stage `nouns` first")
    columns = pq.read_table(path, columns=list(_COLUMNS)).to_pydict()
    return [Noun(*row) for row in zip(*columns.values(), strict=True)]


def suspicious_nouns(nouns: Sequence[Noun]) -> list[Suspicion]:
    """Nouns that may be no entity, with the first reason that holds, most frequent first.

    The reasons, each a fact of the corpus: not a word (no letter in it); rarely a noun (at most a quarter of
    the word's occurrences are tagged so); capitals (it occurs in lower case too); a name (it never occurs in
    lower case).
    """
    found = []
    for noun in nouns:
        text = noun.text
        if not any(character.isalpha() for character in text):
            found.append(Suspicion(noun, "not a word"))
        elif noun.count <= _RARELY * noun.occurrences:
            found.append(Suspicion(noun, "rarely a noun"))
        elif noun.lower_case and text != text.lower():
            found.append(Suspicion(noun, "capitals"))
        elif text != text.lower():
            found.append(Suspicion(noun, "name"))
    return found


def rank_frequency_figure(
    nouns: Sequence[Noun], thresholds: Sequence[tuple[str, int]], *, profile: str
) -> Figure:
    """Occurrences of nouns by rank, both logarithmic.

    Args:
        nouns: most frequent first.
        thresholds: (name, count) of the vocabularies; a vocabulary holds the nouns above its count.
        profile: name of the profile, for the title.
    """
    counts = np.array([noun.count for noun in nouns])
    with style.settings():
        page = style.Page(height=2.9)
        axes = page.axes(0.6, 0.45, style.PAGE_WIDTH - 0.8, 2.2)
        axes.loglog(np.arange(1, len(counts) + 1), counts, color=style.INK)
        style.power_ticks(axes)
        for (name, above), colour in zip(thresholds, style.PALETTE[4:], strict=False):
            size = int((counts > above).sum())
            axes.plot([size, size], [1, max(above, 1)], color=colour, linestyle=":")
            axes.plot([1, size], [max(above, 1)] * 2, color=colour, linestyle=":")
            label = f"{name}: {size:,} nouns above {above:,}"
            axes.annotate(label, (size, max(above, 1)), (4, 4), textcoords="offset points", color=colour)
        axes.set_xlabel("rank of the noun")
        axes.set_ylabel("occurrences")
        axes.set_title(f"{profile}: {len(counts):,} nouns, {int(counts.sum()):,} occurrences", loc="left")
    return page.figure


def write_noun_report(captions: Path, out: Path, *, profile: str, drawn: bool, rows: int = 40) -> list[Path]:
    """Write the figure `noun_frequency` and the tables `frequent_nouns`, `suspicious_nouns`, `noun_phrases`.

    The nouns are those of section 5.7.1, the phrases those of section 5.6 by either rule.

    Args:
        captions: output folder of the stage `nouns`.
        out: gets the figure (.png, .svg, .npz, .json) and the tables (.csv, .md, .tex).
        profile: name of the profile.
        drawn: whether its data is drawn; tables then say so.
        rows: nouns in the printed tables; the .csv files have all.

    Returns:
        The paths written.
    """
    nouns = read_nouns(captions)
    thresholds = _thresholds(captions)
    data = {
        "noun": np.array([noun.text for noun in nouns]),
        "count": np.array([noun.count for noun in nouns]),
        "threshold_name": np.array([name for name, _ in thresholds], dtype=np.str_),
        "threshold": np.array([above for _, above in thresholds], dtype=np.int64),
    }
    figure = rank_frequency_figure(nouns, thresholds, profile=profile)
    paths = save_figure(figure, out / "noun_frequency", data, caption=_caption(thresholds, profile))
    note = table_note(profile, drawn=drawn, printed=False)
    notes = () if note is None else (note,)
    frequent = Grid(
        heading="Most frequent nouns",
        columns=("Rank", "Noun", "Times a noun", "Of its occurrences"),
        rows=tuple((str(rank), *_cells(noun)) for rank, noun in enumerate(nouns[:rows], start=1)),
        texts=2,
        notes=notes,
    )
    lines = [_line(noun) for noun in nouns]
    paths += write_grid(frequent, out / "frequent_nouns", csv=[_COLUMNS, *lines])
    doubtful = suspicious_nouns(nouns)
    suspicious = Grid(
        heading=f"Suspicious nouns: {len(doubtful):,} of {len(nouns):,}",
        columns=("Noun", "Why", "Times a noun", "Of its occurrences"),
        rows=tuple((one.noun.text, one.reason, *_cells(one.noun)[1:]) for one in doubtful[:rows]),
        texts=2,
        notes=(_named_by_the_thesis(nouns), *notes),
    )
    reasons = [(*_line(one.noun), one.reason) for one in doubtful]
    paths += write_grid(suspicious, out / "suspicious_nouns", csv=[(*_COLUMNS, "reason"), *reasons])
    phrases = _phrases(LabelTable.open(captions / LABELS), notes)
    return paths + write_grid(phrases, out / "noun_phrases", csv=[phrases.columns, *phrases.rows])


def _phrases(table: LabelTable, notes: tuple[str, ...]) -> Grid:
    """What the two rules for phrases find; `captions.tagging` says what they are."""
    text, published = table.phrases, table.published_phrases
    equal = len(table) - len(np.unique(np.setxor1d(text.pairs, published.pairs) >> 32))
    rows = (("text", text), ("published code", published))
    return Grid(
        heading="Noun phrases by the rule that finds them",
        columns=("Rule", "Distinct phrases", "Phrases a caption", "With its nouns"),
        rows=tuple((name, *_phrase_cells(table.nouns, phrases)) for name, phrases in rows),
        texts=1,
        notes=(f"Both rules find the same phrases in {equal / len(table):.1%} of the captions.", *notes),
    )


def _phrase_cells(nouns: Ragged, phrases: Ragged) -> tuple[str, str, str]:
    labels = np.union1d(nouns.pairs, phrases.pairs)
    captions = len(phrases)
    return (
        f"{len(np.unique(phrases.values)):,}",
        f"{len(phrases.values) / captions:.2f}",
        f"{len(labels) / captions:.2f}",
    )


def _named_by_the_thesis(nouns: Sequence[Noun]) -> str:
    counts = {noun.text: noun.count for noun in nouns}
    found = ", ".join(f"{text} {counts.get(text, 0):,}" for text in EXAMPLES)
    return f"Words that the thesis names, and how often each is a noun here: {found}."


def _caption(thresholds: Sequence[tuple[str, int]], profile: str) -> Caption:
    cuts = " and ".join(f"{name} (above {above:,})" for name, above in thresholds)
    marked = f" Dotted lines mark the curated vocabularies {cuts}." if cuts else ""
    drawn = "Occurrences of each noun of the training captions by its rank, both axes logarithmic."
    return Caption(
        title="Nouns of the captions by frequency",
        caption=drawn + marked,
        thesis=(),
        profile=profile,
    )


def _line(noun: Noun) -> tuple[str, ...]:
    return noun.text, str(noun.count), str(noun.occurrences), str(noun.lower_case)


def _cells(noun: Noun) -> tuple[str, str, str]:
    return noun.text, f"{noun.count:,}", f"{noun.count / noun.occurrences:.0%}"


def _thresholds(captions: Path) -> list[tuple[str, int]]:
    """(name, count) of every vocabulary, the smallest count first."""
    documents = [read_json(path) for path in sorted(captions.glob("vocabulary-*.json"))]
    found = [(str(document["name"]), int(document["above"])) for document in documents]
    return sorted(found, key=lambda item: (item[1], item[0]))
