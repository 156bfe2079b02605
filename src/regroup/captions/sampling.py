"""Labels of a training batch: which nouns or phrases, in which templates, as token ids."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regroup.captions.prompts import TRAINING_TEMPLATES, prompt
from regroup.captions.randomness import combine, sample_keys
from regroup.captions.settings import Fallback, LabelSource
from regroup.captions.table import Int32, Int64, LabelTable, Ragged
from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.model.constants import Padding

TEMPLATES = len(TRAINING_TEMPLATES)
_LABEL_DRAW, _TEMPLATE_DRAW = 1, 2

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SampledLabels:
    """Labels of B captions, K a caption.

    Attributes:
        rows: int64 [B], the captions' rows in the label table.
        label_ids: int64 [B, K], -1 where the caption has no further label; equal ids are equal strings.
        templates: int64 [B, K], the training template of each label, -1 as above.
        label_texts: int64 [B, K], the number of each prompt (label in its template) among all texts: see
            `LabelSampler.tokens`. Empty places are -1, or the caption's own number with padding `caption`.
        caption_texts: int64 [B], likewise for the captions.
    """

    rows: Int64
    label_ids: Int64
    templates: Int64
    label_texts: Int64
    caption_texts: Int64


class LabelSampler:
    """Draws K labels a caption without replacement, and a template for each (section 4.1).

    Everything drawn is a function of (seed, epoch, row) alone.

    Texts are numbered, so that a trainer can keep the embedding of each: caption r is text r; label l in
    template t is text `len(table) + l * 7 + t`.
    """

    def __init__(
        self,
        table: LabelTable,
        *,
        source: LabelSource = "phrases+nouns",
        count: int = 5,
        padding: Padding = "null",
        vocabulary: Collection[str] | None = None,
        fallback: Fallback = "none_left",
        seed: int = 0,
    ) -> None:
        """Prepare the candidates of every caption.

        Args:
            table: the label table.
            source: `nouns`; `phrases+nouns`, the union of both; `published_phrases+nouns`, likewise with the
                phrases of the study's published code; `none`, captions alone.
            count: K, the labels a caption gets.
            padding: what fills the places of missing labels: `caption` (the caption again: vanilla), `null`
                (an embedding of zeros: refined, section 5.7), `denominator` (zeros that are never a target)
                or `mask` (left out of the loss). Only `caption` changes what is drawn here; the others are
                the trainer's.
            vocabulary: keep only these nouns of a caption (section 5.7.1). Phrases are kept as they are.
            fallback: when a caption's other nouns are used after all. `none_left`: all of them, where none of
                its nouns is in the vocabulary (the study's published code). `too_few`: where fewer than
                `count` labels are kept, in the places that are left (the thesis's text).
            seed: of all draws.

        Raises:
            RegroupError: none of the vocabulary's nouns occurs in the table, or a source without labels.
        """
        self.table = table
        self.count = 0 if source == "none" else count
        self.padding = padding
        self._seed = seed
        phrases = _phrases(table, source)
        self._fillers: Bool | None = None  # of all candidates, those for places that the others leave
        if vocabulary is None:
            self.candidates = _union(table.nouns, phrases)
            return
        inside = _inside(table, vocabulary)
        if fallback == "none_left":
            self.candidates = _union(
                _some(table.nouns, inside | _of_rows_without(table.nouns, inside)), phrases
            )
        else:
            self.candidates = _union(table.nouns, phrases)
            kept = _union(_some(table.nouns, inside), phrases)
            self._fillers = ~np.isin(self.candidates.pairs, kept.pairs, assume_unique=True)

    def of_seed(self, seed: int) -> LabelSampler:
        """The same captions and candidates, from which another seed draws."""
        other = copy.copy(self)
        other._seed = seed
        return other

    @property
    def text_count(self) -> int:
        """Number of texts: captions, and every label in every template."""
        return len(self.table) + self.table.label_count * TEMPLATES

    def sample(self, rows: npt.ArrayLike, epoch: int) -> SampledLabels:
        """Labels of the captions in `rows` in this epoch; a row may come more than once."""
        rows = np.asarray(rows, dtype=np.int64)
        keys = sample_keys(self._seed, epoch, rows)
        label_ids = _draw(self.candidates, self._fillers, rows, keys, self.count)
        drawn = combine(keys[:, None], _TEMPLATE_DRAW, np.arange(self.count))
        templates = np.where(label_ids < 0, -1, (drawn % np.uint64(TEMPLATES)).astype(np.int64))
        empty = rows[:, None] if self.padding == "caption" else -1
        texts = np.where(label_ids < 0, empty, len(self.table) + label_ids * TEMPLATES + templates)
        return SampledLabels(rows, label_ids, templates, texts, rows)

    def texts(self, numbers: npt.ArrayLike) -> list[str]:
        """The texts that have these numbers: captions as they are, labels in their template."""
        numbers = np.asarray(numbers, dtype=np.int64)
        is_caption = numbers < len(self.table)
        captions = iter(self.table.captions(numbers[is_caption]))
        labels, templates = np.divmod(numbers[~is_caption] - len(self.table), TEMPLATES)
        prompts = iter(map(prompt, self.table.label_names(labels), templates.tolist()))
        return [next(captions) if caption else next(prompts) for caption in is_caption.tolist()]

    def tokens(self, numbers: npt.ArrayLike, *, width: int | None = None) -> Int64:
        """CLIP token ids of the texts that have these numbers: int64 [N, T], see `tokens.tokenize`."""
        return tokenize(self.texts(numbers), width=width)


def _draw(
    candidates: Ragged, fillers: Bool | None, rows: Int64, keys: npt.NDArray[np.uint64], count: int
) -> Int64:
    """The `count` candidates with the smallest hashes: a uniform draw in uniform order, then -1.

    Those marked in `fillers` come behind all others of their caption.
    """
    drawn = np.full((len(rows), count), -1, dtype=np.int64)
    starts = candidates.offsets[rows]
    lengths = candidates.offsets[rows + 1] - starts
    longest = int(lengths.max(initial=0))
    if not count or not longest:
        return drawn
    places = np.arange(longest)
    present = places < lengths[:, None]
    where = np.where(present, starts[:, None] + places, 0)
    values = candidates.values[where]
    # hashed by the label itself: a caption's draw does not depend on the order of its candidates
    hashes = combine(keys[:, None], _LABEL_DRAW, values)
    if fillers is not None:
        hashes = (hashes >> np.uint64(1)) | (fillers[where].astype(np.uint64) << np.uint64(63))
    hashes = np.where(present, hashes, np.iinfo(np.uint64).max)
    first = np.argsort(hashes, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(np.where(present, values.astype(np.int64), -1), first, axis=1)
    drawn[:, : chosen.shape[1]] = chosen
    return drawn


def _phrases(table: LabelTable, source: LabelSource) -> Ragged | None:
    if source == "phrases+nouns":
        return table.phrases
    return table.published_phrases if source == "published_phrases+nouns" else None


def _inside(table: LabelTable, vocabulary: Collection[str]) -> Bool:
    """Of all nouns of the table, row by row, which are in the vocabulary."""
    kept = table.label_ids(vocabulary)
    if not len(kept):
        raise RegroupError(f"{table.path}: no noun of the vocabulary occurs in it; was it made from it?")
    wanted = np.zeros(table.label_count, dtype=bool)
    wanted[kept] = True
    return np.asarray(wanted[table.nouns.values])


def _of_rows_without(ragged: Ragged, marked: Bool) -> Bool:
    """Of all values, those in rows where none is marked."""
    rows = ragged.rows
    return np.asarray((np.bincount(rows[marked], minlength=len(ragged)) == 0)[rows])


def _some(ragged: Ragged, marked: Bool) -> Ragged:
    """The marked values alone."""
    return _ragged(ragged.rows[marked], ragged.values[marked], len(ragged))


def _union(one: Ragged, two: Ragged | None) -> Ragged:
    """Labels that are in either, once, in the order of their ids; `one` as it is where `two` is None."""
    if two is None:
        return one
    pairs = np.unique(np.concatenate([one.pairs, two.pairs]))
    return _ragged(pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32), len(one))


def _ragged(rows: Int64, values: Int32, count: int) -> Ragged:
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=offsets[1:])
    return Ragged(offsets, values)
