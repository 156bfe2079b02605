"""Nouns and noun phrases of captions: NLTK's tokeniser, the perceptron tagger, one regular grammar."""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from regroup.captions.perceptron import BatchTagger
from regroup.captions.strings import Encoder, StringLists, concatenate
from regroup.captions.weights import TaggerWeights

# Letters that stand for tags in the grammar: a noun that is a label, a noun that only phrases take (NNPS),
# an adjective, a preposition, a verb.
_LETTER = {"NN": "N", "NNS": "N", "NNP": "N", "NNPS": "P", "JJ": "J", "IN": "I"}
_VERBS = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ"})
_PHRASE = re.compile("([NPJ]*[NP])(?:I[NPJ]*[NP])?")  # group: the first NBAR

# Captions in which NLTK's rules reduce to: split at white space, commas before white space and the final
# period stand alone. Everything else (quotes, brackets, contractions, accents, ...) goes to NLTK itself.
_WORD = "[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*"
_PLAIN = re.compile(rf"\s*(?:{_WORD},?\s+)*{_WORD}\s*(?:\.\s*)?")
_CONTRACTION = re.compile("(?i)cannot|gimme|gonna|gotta|lemme|wanna")
_CHUNK = 8192
_PROCESS_WORTH = 20_000  # distinct captions that repay starting a process (about a second)


class CaptionNouns(NamedTuple):
    """What one caption names: every noun in order, repeated as in the caption, and its noun phrases.

    `published_phrases` are those of the study's published code, see `CaptionTagger`.
    """

    nouns: tuple[str, ...]
    phrases: tuple[str, ...]
    published_phrases: tuple[str, ...]


@dataclass(frozen=True)
class FoundNouns:
    """What many captions name.

    Attributes:
        nouns: every noun of each caption in order, repeated as in the caption.
        phrases, published_phrases: likewise its noun phrases, by either rule.
        words: how often each word, noun or not, occurs in all captions.
    """

    nouns: StringLists
    phrases: StringLists
    published_phrases: StringLists
    words: Counter[str]


class SentenceTagger(Protocol):
    """Tags tokenised sentences by numbers, each of which stands for one of `tag_names`."""

    @property
    def tag_names(self) -> Sequence[str]:
        """Penn tags."""

    def tag_numbers(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        """For each sentence, the index of each word's tag."""


MakeTagger = Callable[[TaggerWeights], SentenceTagger]


class CaptionTagger:
    """Finds nouns and noun phrases in captions.

    Nouns are the words tagged NN, NNS or NNP, and with `verbs` also VB*; case is kept. A phrase is
    NP = NBAR (IN NBAR)?, NBAR = (NN.*|JJ)* NN.*, found from left to right, longest first, without overlap;
    its words are joined by a blank.

    The study's published code has the same grammar and finds something else. In NLTK's chunker a rule sees
    only what no earlier rule has chunked: NP = NBAR takes every NBAR, and NP = NBAR IN NBAR finds none left.
    The code then reads a caption from left to right, and keeps what it has chunked when the next word outside
    chunks comes: a phrase that ends the caption, without a full stop, is lost. Chunks side by side would
    become one, but the longest NBAR leaves no other beside it. `published_phrases` are these.
    """

    def __init__(
        self, weights: TaggerWeights, *, verbs: bool = False, make_tagger: MakeTagger = BatchTagger
    ) -> None:
        """Set up a tagger; takes about half a second."""
        from nltk.tokenize import NLTKWordTokenizer  # here, because it takes seconds and training needs none

        self.weights = weights
        self.verbs = verbs
        self._tagger = make_tagger(weights)
        self._tokenizer = NLTKWordTokenizer()
        letters = [_LETTER.get(tag, "V" if tag in _VERBS else "-") for tag in self._tagger.tag_names]
        self._letters = letters
        self._nouns = "NV" if verbs else "N"

    def tokenize(self, caption: str) -> list[str]:
        """Words of a caption: equal to `NLTKWordTokenizer().tokenize(caption)`."""
        if _PLAIN.fullmatch(caption) is None or _CONTRACTION.search(caption) is not None:
            words: list[str] = self._tokenizer.tokenize(caption)
            return words
        words = caption.replace(",", " ,").split()
        last = words[-1]
        if last[-1] == "." and len(last) > 1:
            words[-1:] = [last[:-1], "."]
        return words

    def tag(self, captions: Sequence[str]) -> list[list[tuple[str, str]]]:
        """(word, Penn tag) pairs of each caption, as NLTK's `tagger.tag(tokenizer.tokenize(caption))`."""
        sentences = [self.tokenize(caption) for caption in captions]
        names, tags = self._tagger.tag_names, self._tagger.tag_numbers(sentences)
        return [
            [(word, names[number]) for word, number in zip(words, numbers, strict=True)]
            for words, numbers in zip(sentences, tags, strict=True)
        ]

    def find(self, captions: Sequence[str]) -> list[CaptionNouns]:
        """Nouns and phrases of each caption, in order."""
        return list(self._find([self.tokenize(caption) for caption in captions]))

    def find_encoded(self, captions: Sequence[str], repeats: Sequence[int]) -> FoundNouns:
        """As `find`, encoded; and how often each word occurs where caption i stands `repeats[i]` times."""
        sentences = [self.tokenize(caption) for caption in captions]
        words = Counter(chain.from_iterable(sentences))
        for sentence, times in zip(sentences, repeats, strict=True):
            for _ in range(times - 1):
                words.update(sentence)
        nouns, phrases, published = Encoder(), Encoder(), Encoder()
        for found in self._find(sentences):
            nouns.append(found.nouns)
            phrases.append(found.phrases)
            published.append(found.published_phrases)
        return FoundNouns(nouns.lists(), phrases.lists(), published.lists(), words)

    def _find(self, sentences: list[list[str]]) -> Iterator[CaptionNouns]:
        letters = self._letters
        for words, numbers in zip(sentences, self._tagger.tag_numbers(sentences), strict=True):
            yield self._select(words, "".join([letters[number] for number in numbers]))

    def _select(self, words: list[str], line: str) -> CaptionNouns:
        wanted = self._nouns
        nouns = tuple([word for word, letter in zip(words, line, strict=True) if letter in wanted])
        phrases, published = [], []
        for match in _PHRASE.finditer(line):
            (start, end), middle = match.span(), match.end(1)
            phrase = " ".join(words[start:end])
            phrases.append(phrase)
            if middle < end:
                published.append(" ".join(words[start:middle]))
                phrase = " ".join(words[middle + 1 : end])
            if end < len(line):
                published.append(phrase)
        return CaptionNouns(nouns, tuple(phrases), tuple(published))


def find_nouns(
    captions: Sequence[str],
    weights: TaggerWeights,
    *,
    verbs: bool = False,
    processes: int = 1,
    progress: bool = False,
    make_tagger: MakeTagger = BatchTagger,
) -> FoundNouns:
    """Nouns and phrases of each caption, each distinct caption tagged once.

    Args:
        captions: any number, repeats welcome.
        weights: from `load_weights`.
        verbs: verbs count as nouns, as in GroupViT's own pretraining.
        processes: at most so many processes; fewer where there is too little work. The result is the same.
        progress: show a progress bar.
        make_tagger: what tags the words; the benchmark puts NLTK's own there.
    """
    repeats = Counter(captions)
    distinct = list(repeats)
    chunks = [distinct[start : start + _CHUNK] for start in range(0, len(distinct), _CHUNK)]
    counts = [[repeats[caption] for caption in chunk] for chunk in chunks]
    processes = max(1, min(processes, len(distinct) // _PROCESS_WORTH))
    parts = []
    with tqdm(total=len(distinct), unit="caption", unit_scale=True, disable=not progress) as bar:
        for part in _map(chunks, counts, (weights, verbs, make_tagger), processes):
            parts.append(part)
            bar.update(len(part.nouns))
    number = {caption: row for row, caption in enumerate(distinct)}
    rows = np.fromiter((number[caption] for caption in captions), dtype=np.int64, count=len(captions))
    words: Counter[str] = Counter()
    for part in parts:
        words.update(part.words)
    return FoundNouns(
        concatenate([part.nouns for part in parts]).take(rows),
        concatenate([part.phrases for part in parts]).take(rows),
        concatenate([part.published_phrases for part in parts]).take(rows),
        words,
    )


def _map(
    chunks: list[list[str]],
    counts: list[list[int]],
    setup: tuple[TaggerWeights, bool, MakeTagger],
    processes: int,
) -> Iterator[FoundNouns]:
    if processes == 1:
        yield from map(_caption_tagger(*setup).find_encoded, chunks, counts)
        return
    # Forks of a fresh process that has imported all this once: a fork of this one would copy arrow's locks.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "nltk.tokenize", "nltk.tag.perceptron"])
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start_worker, initargs=setup
    ) as pool:
        yield from pool.map(_find_in_worker, chunks, counts)


_worker: CaptionTagger | None = None


def _start_worker(weights: TaggerWeights, verbs: bool, make_tagger: MakeTagger) -> None:
    global _worker
    _worker = _caption_tagger(weights, verbs, make_tagger)


def _caption_tagger(weights: TaggerWeights, verbs: bool, make_tagger: MakeTagger) -> CaptionTagger:
    return CaptionTagger(weights, verbs=verbs, make_tagger=make_tagger)


def _find_in_worker(captions: list[str], repeats: list[int]) -> FoundNouns:
    assert _worker is not None
    return _worker.find_encoded(captions, repeats)
