"""Label table, frequencies, vocabularies, tokens and the sampling of labels."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from regroup.captions.coco import read_coco_captions
from regroup.captions.labels import FREQUENCY, extract_labels, read_frequency
from regroup.captions.prompts import TRAINING_TEMPLATES, class_prompt, prompt
from regroup.captions.sampling import LabelSampler
from regroup.captions.settings import Fallback, LabelSource, NounsParams
from regroup.captions.table import LABELS, LabelTable, read_vocabulary
from regroup.captions.tagging import CaptionTagger
from regroup.captions.tokens import tokenize
from regroup.captions.weights import TaggerWeights
from regroup.errors import RegroupError
from regroup.model.constants import END_OF_TEXT, START_OF_TEXT

from .conftest import write_coco

TEXTS = {
    1: ["a dog", "A dog and a cat on a big red sofa", "", "\n\n", "🐕🐕🐕"],
    2: ["two cats and a dog near a dog", "the man rides a horse in a green park " * 250],
    3: ["running", "the white horse"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_coco(tmp_path_factory.mktemp("labels") / "coco", TEXTS)
    out = root.parent / "captions"
    extract_labels(root, out, NounsParams(vocabularies={"frequent": 4, "all": 0}))
    return out


@pytest.fixture(scope="module")
def table(folder: Path) -> LabelTable:
    return LabelTable.open(folder / LABELS)


def row_of(table: LabelTable, text: str) -> int:
    return table.captions(range(len(table))).index(text)


def test_the_table_has_a_row_a_caption_with_its_distinct_labels(
    folder: Path, table: LabelTable, weights: TaggerWeights
) -> None:
    corpus = read_coco_captions(folder.parent / "coco" / "annotations" / "captions_train2017.json")
    rows = pq.read_table(folder / LABELS).to_pylist()
    expected = [(image.id, caption.id, caption.text) for image in corpus.images for caption in image.captions]
    assert [(row["image_id"], row["caption_id"], row["caption"]) for row in rows] == expected
    found = CaptionTagger(weights).find(corpus.captions)
    for number, (row, one) in enumerate(zip(rows, found, strict=True)):
        assert row["nouns"] == list(dict.fromkeys(one.nouns))
        assert row["phrases"] == list(dict.fromkeys(one.phrases))
        assert row["published_phrases"] == list(dict.fromkeys(one.published_phrases))
        assert table.label_names(table.nouns.row(number)) == row["nouns"]
        assert table.label_names(table.phrases.row(number)) == row["phrases"]
        assert table.label_names(table.published_phrases.row(number)) == row["published_phrases"]
    assert table.captions_digest == corpus.digest
    assert table.tagger == "textblob@1109164b3d28"


def test_a_memory_mapped_table_is_the_same_and_follows_its_source(folder: Path, tmp_path: Path) -> None:
    plain = LabelTable.open(folder / LABELS)
    (tmp_path / "old.arrow").write_bytes(b"")
    for _ in range(2):  # made, then found
        mapped = LabelTable.open(folder / LABELS, mapped=tmp_path / "labels.arrow")
        assert np.array_equal(mapped.nouns.values, plain.nouns.values)
        assert mapped.captions(range(len(plain))) == plain.captions(range(len(plain)))
    other = write_coco(tmp_path / "coco", {5: ["a zebra"]})
    extract_labels(other, tmp_path / "captions", NounsParams())
    changed = LabelTable.open(tmp_path / "captions" / LABELS, mapped=tmp_path / "labels.arrow")
    assert changed.captions([0]) == ["a zebra"]


def test_a_damaged_copy_of_the_table_is_made_again(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "labels.arrow"
    plain = LabelTable.open(folder / LABELS)
    LabelTable.open(folder / LABELS, mapped=copy)
    whole = copy.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0x5A  # still an Arrow file, of other labels
    for damaged in (flipped, whole[:-500], whole[: len(whole) // 2], b"", whole + b"more", b"x" * 500):
        copy.unlink()
        copy.write_bytes(damaged)
        mapped = LabelTable.open(folder / LABELS, mapped=copy)
        assert np.array_equal(mapped.nouns.values, plain.nouns.values)
        assert np.array_equal(mapped.image_ids, plain.image_ids)
        assert mapped.captions(range(len(plain))) == plain.captions(range(len(plain)))
        assert copy.read_bytes() == whole


def test_frequencies_count_every_occurrence_and_keep_case(folder: Path) -> None:
    frequency = read_frequency(folder)
    counts = dict(frequency)
    assert (counts["dog"], counts["horse"], counts["park"]) == (4, 251, 250)
    assert frequency == sorted(frequency, key=lambda item: (-item[1], item[0]))


def test_a_vocabulary_has_the_nouns_above_its_count(folder: Path) -> None:
    counts = dict(read_frequency(folder))
    assert set(read_vocabulary(folder, "frequent")) == {
        noun for noun, count in counts.items() if count > 4
    }  # "dog" has 4
    assert list(read_vocabulary(folder, "all")) == [noun for noun, _ in read_frequency(folder)]
    with pytest.raises(RegroupError, match="vocabularies made: all, frequent"):
        read_vocabulary(folder, "frequnt")


def test_extraction_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    extract_labels(folder.parent / "coco", tmp_path, NounsParams(vocabularies={"forgotten": 1}))
    params = NounsParams(vocabularies={"frequent": 4, "all": 0}, processes=2)
    extract_labels(folder.parent / "coco", tmp_path, params)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted([LABELS, FREQUENCY, "vocabulary-all.json", "vocabulary-frequent.json"])
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


# --- tokens


def test_tokens_are_clips() -> None:
    """Known from CLIP's own tokeniser."""
    cat = [49406, 320, 1125, 539, 320, 2368, 49407]
    dog = [49406, 320, 1125, 539, 320, 1929, 49407]
    assert tokenize(["a photo of a cat", " A  photo\nof a DOG "]).tolist() == [cat, dog]
    assert tokenize(["cats &amp;amp; dogs"]).tolist() == tokenize(["cats & dogs"]).tolist()


def test_long_and_empty_texts_keep_start_and_end() -> None:
    ids = tokenize(["dog " * 2500, "", "dog"])
    assert ids.shape == (3, 77)
    assert (ids[:, 0] == START_OF_TEXT).all()
    assert ids[0, -1] == END_OF_TEXT
    assert ids[1].tolist() == [START_OF_TEXT, END_OF_TEXT] + 75 * [0]
    assert (ids.max(axis=1) == END_OF_TEXT).all()
    assert tokenize([]).shape[0] == 0
    assert tokenize(["dog"], width=9).shape == (1, 9)


def test_prompts_hold_the_label_as_text() -> None:
    assert prompt("{}", 0) == "itap of a {}."
    assert class_prompt("bed") == "a photo of a bed."
    assert len(TRAINING_TEMPLATES) == 7


# --- sampling


def allowed(table: LabelTable, row: int, source: str) -> set[int]:
    nouns, phrases = set(table.nouns.row(row).tolist()), set(table.phrases.row(row).tolist())
    published = set(table.published_phrases.row(row).tolist())
    return {
        "none": set(),
        "nouns": nouns,
        "phrases+nouns": nouns | phrases,
        "published_phrases+nouns": nouns | published,
    }[source]


@pytest.mark.parametrize("source", get_args(LabelSource))
def test_labels_are_distinct_labels_of_the_caption_as_many_as_there_are(
    table: LabelTable, source: LabelSource
) -> None:
    sampler = LabelSampler(table, source=source, count=3, seed=1)
    rows = np.arange(len(table))
    for epoch in range(20):
        sampled = sampler.sample(rows, epoch)
        assert sampled.label_ids.shape == (len(table), 0 if source == "none" else 3)
        for row in rows:
            drawn = [label for label in sampled.label_ids[row].tolist() if label >= 0]
            candidates = allowed(table, row, source)
            assert len(drawn) == len(set(drawn)) == min(len(candidates), sampled.label_ids.shape[1])
            assert set(drawn) <= candidates


def test_padding_stands_behind_the_labels(table: LabelTable) -> None:
    captions, count = len(table), 5
    null = LabelSampler(table, source="nouns", count=count, padding="null").sample(range(captions), 0)
    filled = LabelSampler(table, source="nouns", count=count, padding="caption").sample(range(captions), 0)
    empty = null.label_ids < 0
    assert (np.diff(empty.astype(int), axis=1) >= 0).all()
    assert (null.label_texts[empty] == -1).all()
    rows = np.broadcast_to(np.arange(captions)[:, None], empty.shape)
    assert np.array_equal(filled.label_texts[empty], rows[empty])
    assert np.array_equal(filled.label_texts[~empty], null.label_texts[~empty])
    assert np.array_equal(filled.label_ids, null.label_ids)


def test_text_numbers_stand_for_captions_and_prompts(table: LabelTable) -> None:
    sampler = LabelSampler(table, source="phrases+nouns", count=2, seed=4)
    rows = [row_of(table, text) for text in (TEXTS[1][1], TEXTS[2][0], TEXTS[1][1])]
    sampled = sampler.sample(rows, 3)
    assert sampler.texts(sampled.caption_texts) == [TEXTS[1][1], TEXTS[2][0], TEXTS[1][1]]
    for labels, templates, numbers in zip(
        sampled.label_ids, sampled.templates, sampled.label_texts, strict=True
    ):
        expected = [
            TRAINING_TEMPLATES[template].format(name)
            for name, template in zip(table.label_names(labels), templates, strict=True)
        ]
        assert sampler.texts(numbers) == expected
        assert np.array_equal(sampler.tokens(numbers), tokenize(expected))
    assert sampled.label_texts.max() < sampler.text_count


def test_a_draw_depends_on_seed_epoch_and_sample_alone(table: LabelTable) -> None:
    sampler = LabelSampler(table, count=2, seed=7)
    whole = sampler.sample(range(len(table)), 5)
    order = np.random.default_rng(0).permutation(len(table))
    parts = [sampler.sample(part, 5) for part in np.array_split(order, 4)]
    for name in ("label_ids", "templates", "label_texts"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(joined, getattr(whole, name)[order])
    other = [LabelSampler(table, count=2, seed=8).sample(range(len(table)), 5), sampler.sample(order, 6)]
    assert all(not np.array_equal(one.label_texts, whole.label_texts) for one in other)


def test_draws_are_uniform_over_labels_and_templates(table: LabelTable) -> None:
    """Chi-square over all ordered pairs of labels, and over templates; fails once in 1,000 seeds."""
    row = row_of(table, TEXTS[1][1])  # nouns: dog, cat, sofa
    sampler = LabelSampler(table, source="nouns", count=2, seed=11)
    epochs = [sampler.sample([row], epoch) for epoch in range(1500)]
    pairs = Counter(tuple(sampled.label_ids[0].tolist()) for sampled in epochs)
    templates = Counter(template for sampled in epochs for template in sampled.templates[0].tolist())
    assert len(pairs) == 6
    assert stats.chisquare(list(pairs.values())).pvalue > 1e-3
    assert len({tuple(sampled.templates[0].tolist()) for sampled in epochs}) == 49
    assert len(templates) == 7
    assert stats.chisquare(list(templates.values())).pvalue > 1e-3


def possible(nouns: set[str], phrases: set[str], count: int, fallback: Fallback) -> set[frozenset[str]]:
    """Every set of labels that a caption can get with the vocabulary `CURATED`, counted out."""
    kept = (nouns & CURATED) | phrases
    if fallback == "none_left":
        candidates = kept if nouns & CURATED else nouns | phrases
        return set(map(frozenset, combinations(sorted(candidates), min(count, len(candidates)))))
    if len(kept) >= count:
        return set(map(frozenset, combinations(sorted(kept), count)))
    others = nouns - kept
    filled = combinations(sorted(others), min(count - len(kept), len(others)))
    return {frozenset(kept) | frozenset(some) for some in filled}


CURATED = {"dog", "cat", "horse", "unheard-of"}


@pytest.mark.parametrize("fallback", get_args(Fallback))
@pytest.mark.parametrize("source", ["nouns", "phrases+nouns", "published_phrases+nouns"])
def test_a_curated_vocabulary_gives_every_label_set_that_its_fallback_allows_and_no_other(
    table: LabelTable, source: LabelSource, fallback: Fallback
) -> None:
    rows = pq.read_table(table.path).to_pylist()
    key = source.removesuffix("+nouns")
    for count in (1, 2, 4):
        sampler = LabelSampler(
            table, source=source, count=count, vocabulary=sorted(CURATED), fallback=fallback, seed=2
        )
        seen: list[set[frozenset[str]]] = [set() for _ in rows]
        for epoch in range(150):
            for drawn, ids in zip(seen, sampler.sample(range(len(table)), epoch).label_ids, strict=True):
                drawn.add(frozenset(table.label_names(ids[ids >= 0])))
        for row, drawn in zip(rows, seen, strict=True):
            phrases = set(row[key]) if key != "nouns" else set()
            assert drawn == possible(set(row["nouns"]), phrases, count, fallback), row["caption"]


def test_a_vocabulary_that_keeps_no_noun_of_the_table_is_refused(table: LabelTable) -> None:
    for fallback in get_args(Fallback):
        with pytest.raises(RegroupError, match="no noun of the vocabulary occurs"):
            LabelSampler(table, vocabulary=["unheard-of"], fallback=fallback)


def test_a_table_from_before_the_published_phrases_says_what_to_run(folder: Path, tmp_path: Path) -> None:
    old = pq.read_table(folder / LABELS).drop_columns(["published_phrases"])
    pq.write_table(old, tmp_path / LABELS)
    with pytest.raises(RegroupError, match="has no published_phrases; run the stage `nouns` again"):
        LabelTable.open(tmp_path / LABELS)
