"""NLTK's averaged-perceptron tagger for many sentences at once, with NLTK's tags exactly.

A tag is the class with the largest sum of 14 table look-ups. Here the look-ups of a batch of sentences are
rows of one float32 matrix, and all sentences advance together, a word at a time. Float32 sums may differ from
NLTK's float64 sums in the last digits; so where the best two scores are closer than a proven bound of that
difference, NLTK's own code decides.

This file is here for its speed alone: NLTK's tagger in its place gives the same labels in seven times the
processor time (`benchmarks/captions.py` prints the ratio).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import numpy.typing as npt

from regroup.captions.weights import TaggerWeights

if TYPE_CHECKING:
    from nltk.tag.perceptron import PerceptronTagger

BATCH_SENTENCES = 1024
_MAX_WORDS = 500_000  # distinct words kept; beyond, the tables start anew (about 300 bytes a word)

# The nine look-ups that depend on a word alone, each by (family, offset of the word).
_STATIC = (
    ("i suffix", 0),
    ("i pref1", 0),
    ("i word", 0),
    ("i-1 word", -1),
    ("i-1 suffix", -1),
    ("i-2 word", -2),
    ("i+1 word", 1),
    ("i+1 suffix", 1),
    ("i+2 word", 2),
)
_BOUNDARY = ("-START-", "-START2-", "-END-", "-END2-")

_Number = TypeVar("_Number", np.int16, np.int32)
Rows = npt.NDArray[np.int32]
Tags = npt.NDArray[np.int16]


def nltk_tagger(weights: TaggerWeights) -> PerceptronTagger:
    """NLTK's own tagger with these weights."""
    from nltk.tag.perceptron import PerceptronTagger  # here, because it takes seconds and training needs none

    tagger = PerceptronTagger(load=False)
    tagger.decode_json_params((weights.weights, weights.tagdict, list(weights.classes)))
    return tagger


class BatchTagger:
    """Tags tokenised sentences; equal to `nltk.tag.perceptron.PerceptronTagger.tag` for every word."""

    def __init__(self, weights: TaggerWeights) -> None:
        """Lay the weights out as a matrix (about 20 MB)."""
        self.classes = weights.classes
        self._nltk = nltk_tagger(weights)
        self._row = {feature: number for number, feature in enumerate(weights.weights, start=1)}
        # Row 0 is the feature nobody has seen. Columns run backwards through the alphabet, because NLTK
        # breaks ties by the later tag and argmax takes the first.
        self._column = {tag: len(self.classes) - 1 - number for number, tag in enumerate(self.classes)}
        self._matrix = np.zeros((len(self._row) + 1, len(self.classes)), dtype=np.float32)
        for number, scores in enumerate(weights.weights.values(), start=1):
            for tag, score in scores.items():
                if tag in self._column:
                    self._matrix[number, self._column[tag]] = score
        self._tie = _rounding_bound(self._matrix)
        # previous tags are numbered by column, then -START- and -START2-
        tags = (*reversed(self.classes), "-START-", "-START2-")
        self._tags = tags
        self._previous = self._rows(f"i-1 tag {tag}" for tag in tags)
        self._previous2 = self._rows(f"i-2 tag {tag}" for tag in tags)
        pairs = self._rows(f"i tag+i-2 tag {one} {two}" for one in tags for two in tags)
        self._pairs = pairs.reshape(len(tags), len(tags))
        self._tag_and_word = self._collect_tag_and_word()
        self._tagdict = {word: self._column[tag] for word, tag in weights.tagdict.items()}
        self._forget_words()

    def tag(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Tag sentences: a list of Penn tags for each, as long as the sentence."""
        names = self._tags
        return [[names[tag] for tag in tags] for tags in self.tag_numbers(sentences)]

    @property
    def tag_names(self) -> tuple[str, ...]:
        """The tag each number of `tag_numbers` stands for."""
        return self._tags[: len(self.classes)]

    def tag_numbers(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        """Tag sentences: for each, a list of indices into `tag_names`."""
        numbers: list[list[int]] = []
        for start in range(0, len(sentences), BATCH_SENTENCES):
            numbers += self._tag_batch(sentences[start : start + BATCH_SENTENCES])
        return numbers

    def _tag_batch(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        lengths = np.array([len(sentence) for sentence in sentences])
        order = np.argsort(-lengths, kind="stable")  # longest first: those still running are a prefix
        words, places = self._lay_out([sentences[number] for number in order])
        known = self._known[words]
        scores = self._static_scores(words, np.flatnonzero(known < 0))
        score_row = np.cumsum(known < 0) - 1  # token -> row of scores, for tokens that have one
        tags = known.copy()
        sorted_lengths = lengths[order]
        previous = np.full(len(sentences), len(self.classes))
        previous2 = previous + 1
        for step in range(int(lengths.max(initial=0))):
            running = int(np.searchsorted(-sorted_lengths, -step, side="left"))
            place = places[:running] + step
            chosen = tags[place]
            open_ = np.flatnonzero(chosen < 0)
            if len(open_):
                token, one, two = place[open_], previous[open_], previous2[open_]
                total = scores[score_row[token]]
                total += self._matrix[self._previous[one]]
                total += self._matrix[self._previous2[two]]
                total += self._matrix[self._pairs[one, two]]
                total += self._matrix[self._word_after[words[token], one]]
                best = total.argmax(axis=1)
                limit = total[np.arange(len(best)), best] - self._tie
                for index in np.flatnonzero((total >= limit[:, None]).sum(axis=1) > 1).tolist():
                    sentence = sentences[order[open_[index]]]
                    best[index] = self._decide(sentence, step, int(one[index]), int(two[index]))
                chosen[open_] = best
                tags[token] = best
            previous2[:running] = previous[:running]
            previous[:running] = chosen
        numbers: list[list[int]] = [[] for _ in sentences]
        for index, number in enumerate(order.tolist()):
            numbers[number] = tags[places[index] : places[index] + lengths[number]].tolist()
        return numbers

    def _lay_out(self, sentences: Sequence[Sequence[str]]) -> tuple[Rows, npt.NDArray[np.int64]]:
        """All words in one row of numbers, marks around each sentence, and where each sentence starts."""
        if len(self._number) > _MAX_WORDS:
            self._forget_words()
        number = self._number
        layout: list[int] = []
        places = np.empty(len(sentences), dtype=np.int64)
        for index, sentence in enumerate(sentences):
            layout += (0, 1)
            places[index] = len(layout)
            for word in sentence:
                known = number.get(word)
                layout.append(self._add_word(word) if known is None else known)
            layout += (2, 3)
        self._freeze_words()
        return np.array(layout, dtype=np.int32), places

    def _static_scores(self, words: Rows, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        total = np.tile(self._matrix[self._row.get("bias", 0)], (len(tokens), 1))
        for column, (_, offset) in enumerate(_STATIC):
            total += self._matrix[self._static[words[tokens + offset], column]]
        return total

    def _decide(self, sentence: Sequence[str], place: int, previous: int, previous2: int) -> int:
        """NLTK's own choice for one word: used for near ties."""
        nltk = self._nltk
        context = nltk.START + [nltk.normalize(word) for word in sentence] + nltk.END
        names = self._tags
        features = nltk._get_features(place, sentence[place], context, names[previous], names[previous2])
        return self._column[cast(str, nltk.model.predict(features)[0])]

    def _rows(self, features: Iterable[str]) -> Rows:
        return np.array([self._row.get(feature, 0) for feature in features], dtype=np.int32)

    def _collect_tag_and_word(self) -> dict[str, list[tuple[int, int]]]:
        """For each word (normalised): (previous tag, row) of its `i-1 tag+i word` features."""
        number = {tag: index for index, tag in enumerate(self._tags)}
        collected: dict[str, list[tuple[int, int]]] = {}
        for feature, row in self._row.items():
            if feature.startswith("i-1 tag+i word "):
                tag, _, word = feature.removeprefix("i-1 tag+i word ").partition(" ")
                if tag in number:
                    collected.setdefault(word, []).append((number[tag], row))
        return collected

    def _forget_words(self) -> None:
        self._number: dict[str, int] = {}
        self._new_static: list[list[int]] = []
        self._new_known: list[int] = []
        self._new_after: list[tuple[int, int, int]] = []
        self._static = np.zeros((0, len(_STATIC)), dtype=np.int32)
        self._known = np.zeros(0, dtype=np.int16)
        self._word_after = np.zeros((0, len(self._tags)), dtype=np.int32)
        self._words = 0
        for mark in _BOUNDARY:  # never looked up by name: a caption may hold the word "-START-"
            self._append_word(mark, mark, known=0)

    def _add_word(self, word: str) -> int:
        self._number[word] = self._words
        return self._append_word(word, self._nltk.normalize(word), known=self._tagdict.get(word, -1))

    def _append_word(self, word: str, normal: str, known: int) -> int:
        get = self._row.get
        texts = {"i suffix": word[-3:], "i pref1": word[0]}
        rows = []
        for family, _ in _STATIC:
            text = texts.get(family, normal[-3:] if family.endswith("suffix") else normal)
            rows.append(get(f"{family} {text}", 0))
        number = self._words
        self._new_static.append(rows)
        self._new_known.append(known)
        self._new_after += [(number, tag, row) for tag, row in self._tag_and_word.get(normal, ())]
        self._words += 1
        return number

    def _freeze_words(self) -> None:
        """Move the words met since the last batch into the arrays, which double when they are full."""
        if not self._new_static:
            return
        start, end = self._words - len(self._new_static), self._words
        if end > len(self._known):
            room = 2 * end
            self._static = _grown(self._static, room)
            self._known = _grown(self._known, room)
            self._word_after = _grown(self._word_after, room)
        self._static[start:end] = self._new_static
        self._known[start:end] = self._new_known
        if self._new_after:
            word, tag, row = np.array(self._new_after).T
            self._word_after[word, tag] = row
        self._new_static, self._new_known, self._new_after = [], [], []


def _grown(array: npt.NDArray[_Number], rows: int) -> npt.NDArray[_Number]:
    larger = np.zeros((rows, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def _rounding_bound(matrix: npt.NDArray[np.float32]) -> float:
    """A bound of the difference between two scores' float32 and exact values.

    A sum of n = 14 rounded terms is off by at most (n + 1) u / (1 - (n + 1) u) times the sum of their
    magnitudes, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, eq. 4.4); twice that for a
    difference, and twice again for the float64 sums of NLTK, far more than they need.
    """
    terms, unit = 15, 2.0**-24
    largest = terms * float(np.abs(matrix).max(initial=0.0))
    return 4 * terms * unit / (1 - terms * unit) * largest
