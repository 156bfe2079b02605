"""Tags, nouns and phrases against NLTK's own tokeniser, tagger and chunker."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from nltk import RegexpParser, Tree
from nltk.tokenize import NLTKWordTokenizer

from regroup.captions.perceptron import BatchTagger, nltk_tagger
from regroup.captions.tagging import CaptionTagger, find_nouns
from regroup.captions.weights import TaggerWeights

from .conftest import CAPTIONS, real_captions

AWKWARD = (
    "",
    " \n\t ",
    ".",
    "...",
    "dog.\n",
    "dog . ",
    "e.g. a dog, 5,000 cats, i.e. many",
    "He said \"it's a dog's life\" -- didn't he?",
    "cannot Gonna can-cannot gimme lemme",
    "They CANNOT stand",
    "Gotta go home",
    "a (small) [dog] {here} <there> $5 50% #1 @home; yes: no!",
    "red, white,blue ,green , and",
    "-START- -END2- word",
    "1999 1800s 12:30 3rd 7",
    "café naïve “quoted” 犬 🐕🐕 ünïcode",
    "well-known state-of-the-art -dash dash- a--b",
    "x" * 10_000,
    "dog" + " " * 10_000 + "!",
    "big " * 2_500,
    "A dog " * 1_667,
)


def random_captions(count: int) -> list[str]:
    generator = random.Random(5)
    words = [
        *" ".join(CAPTIONS).split(),
        "cat,",
        "red-brown",
        "Mr.",
        "it's",
        "don't",
        "(",
        ")",
        '"',
        "5",
        "é",
    ]
    return [
        " ".join(generator.choices(words, k=generator.randrange(30)))
        + generator.choice(["", ".", " .", "\n"])
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def tagger(weights: TaggerWeights) -> CaptionTagger:
    return CaptionTagger(weights)


def test_tags_equal_nltks_on_awkward_and_random_captions(
    tagger: CaptionTagger, weights: TaggerWeights
) -> None:
    captions = [*AWKWARD, *CAPTIONS, *random_captions(1200)]
    tokenizer, reference = NLTKWordTokenizer(), nltk_tagger(weights)
    for caption, tags in zip(captions, tagger.tag(captions), strict=True):
        assert tags == reference.tag(tokenizer.tokenize(caption)), caption


@pytest.mark.slow
def test_tags_equal_nltks_on_real_captions(tagger: CaptionTagger, weights: TaggerWeights) -> None:
    captions = list(dict.fromkeys(real_captions()))
    tokenizer, reference = NLTKWordTokenizer(), nltk_tagger(weights)
    for caption, tags in zip(captions, tagger.tag(captions), strict=True):
        assert tags == reference.tag(tokenizer.tokenize(caption)), caption


def test_ties_go_to_the_later_tag_as_in_nltk() -> None:
    """Weights in which every word ties between tags, exactly or by less than float32 can tell."""
    features = {
        "bias": {"A": 1.0, "B": 1.0, "C": 0.5},
        "i word small": {"A": 1e-9},
        "i word sum": {"A": 0.1 + 0.2, "B": 0.3},
        "i-1 tag B": {"C": 0.5},
    }
    made = TaggerWeights("textblob", "test", features, {"fixed": "C"}, ("A", "B", "C"))
    sentences = [["small", "other", "sum"], ["other", "fixed", "other"], [], ["sum"]]
    expected = [[tag for _, tag in nltk_tagger(made).tag(sentence)] for sentence in sentences]
    assert BatchTagger(made).tag(sentences) == expected
    assert expected[0][0] == "A"


def test_the_number_of_words_kept_does_not_change_tags(
    monkeypatch: pytest.MonkeyPatch, weights: TaggerWeights, tagger: CaptionTagger
) -> None:
    captions = random_captions(300)
    monkeypatch.setattr("regroup.captions.perceptron._MAX_WORDS", 10)
    monkeypatch.setattr("regroup.captions.perceptron.BATCH_SENTENCES", 7)
    assert CaptionTagger(weights).tag(captions) == tagger.tag(captions)


def test_nouns_and_phrases_of_a_caption(tagger: CaptionTagger) -> None:
    found = tagger.find(["Two children, a bowl of hot soup and a large wooden table near the table"])[0]
    assert found.nouns == ("children", "bowl", "soup", "table", "table")
    assert found.phrases == ("children", "bowl of hot soup", "large wooden table", "table")


def test_case_is_kept_and_verbs_are_optional(tagger: CaptionTagger, weights: TaggerWeights) -> None:
    caption = "Dogs chase a dog and a Dog"
    assert tagger.find([caption])[0].nouns == ("Dogs", "dog", "Dog")
    assert CaptionTagger(weights, verbs=True).find([caption])[0].nouns == ("Dogs", "chase", "dog", "Dog")


# As people write captions: phrases at the start, at the end, with and without a full stop, with adjectives
# that no noun follows, joined by one preposition or by several, said twice.
WRITTEN = (
    "a small brown dog with a ball in its mouth",
    "A man in a suit stands next to a row of parked bicycles.",
    "bowl of soup on table",
    "bowl of soup on table near window of house .",
    "a red bus and a red bus of tourists",
    "the sky is blue",
    "Something blue , small and round",
    "several people on top of a hill looking at the sea below",
    "Elephants at a water hole; birds above elephants",
    "kitchen table",
    "it is what it is",
    "a group of young men playing a game of frisbee on green grass",
    "New York City street corner (empty) at night!",
    "dog",
    "a cat , a cat of marble , a cat",
)
NOUN_PHRASE = "<NN.*|JJ>*<NN.*>"


def read_as_the_published_code_does(chunks: Tree) -> tuple[str, ...]:
    """Chunks side by side are one phrase, and a phrase counts when a word outside chunks follows it."""
    found, pending = [], list[str]()
    for node in chunks:
        if isinstance(node, Tree):
            pending += [word for word, _ in node.leaves()]
        elif pending:
            found.append(" ".join(pending))
            pending = []
    return tuple(found)


def test_phrases_equal_nltks_chunker(tagger: CaptionTagger) -> None:
    chunker = RegexpParser(f"NP: {{{NOUN_PHRASE}(<IN>{NOUN_PHRASE})?}}")
    captions = [*WRITTEN, *CAPTIONS, *random_captions(150)]
    for tagged, found in zip(tagger.tag(captions), tagger.find(captions), strict=True):
        chunks = chunker.parse(tagged).subtrees(lambda tree: tree.label() == "NP") if tagged else []
        assert found.phrases == tuple(" ".join(word for word, _ in chunk.leaves()) for chunk in chunks)


def check_published_phrases(tagger: CaptionTagger, captions: Sequence[str]) -> None:
    """Against NLTK's chunker with two rules for NP in a row, of which the second never finds an NBAR left."""
    chunker = RegexpParser(f"NBAR: {{{NOUN_PHRASE}}}\nNP:\n  {{<NBAR>}}\n  {{<NBAR><IN><NBAR>}}")
    for tagged, found in zip(tagger.tag(captions), tagger.find(captions), strict=True):
        chunks = chunker.parse(tagged) if tagged else Tree("S", [])
        assert found.published_phrases == read_as_the_published_code_does(chunks), tagged
        assert all(len(chunk) == 1 for chunk in chunks.subtrees(lambda tree: tree.label() == "NP"))


def test_published_phrases_equal_nltks_chunker(tagger: CaptionTagger) -> None:
    check_published_phrases(tagger, [*WRITTEN, *AWKWARD[:-4], *CAPTIONS, *random_captions(150)])


@pytest.mark.slow
def test_published_phrases_equal_nltks_chunker_on_real_captions(tagger: CaptionTagger) -> None:
    check_published_phrases(tagger, real_captions())


def test_the_two_rules_differ_where_a_preposition_joins_and_at_the_end(tagger: CaptionTagger) -> None:
    open_end, stopped = tagger.find(["a bowl of hot soup on the old table", "A dog on a mat."])
    assert open_end.phrases == ("bowl of hot soup", "old table")
    assert open_end.published_phrases == ("bowl", "hot soup")
    assert stopped.phrases == stopped.published_phrases == ("dog", "mat")


def test_processes_and_repeats_do_not_change_the_result(
    monkeypatch: pytest.MonkeyPatch, weights: TaggerWeights, tagger: CaptionTagger
) -> None:
    captions = [*CAPTIONS, *random_captions(60), *CAPTIONS]
    monkeypatch.setattr("regroup.captions.tagging._PROCESS_WORTH", 20)
    monkeypatch.setattr("regroup.captions.tagging._CHUNK", 16)
    found = find_nouns(captions, weights, processes=2)
    for row, expected in enumerate(tagger.find(captions)):
        assert (found.nouns[row], found.phrases[row]) == (expected.nouns, expected.phrases)
        assert found.published_phrases[row] == expected.published_phrases
    assert len(found.nouns) == len(found.phrases) == len(captions)
    assert found.words == Counter(word for caption in captions for word in tagger.tokenize(caption))
