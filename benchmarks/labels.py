"""How far labels by the thesis's text and by its published code lie apart: phrases, and the rows of table 8.

    python benchmarks/labels.py --captions captions_val2017.json
    python benchmarks/labels.py --labels data/mini/captions

The first tags the captions (REGROUP_COCO_CAPTIONS may name them) and scales the thesis's thresholds by how
many there are; the second reads what the stage `nouns` has made.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from regroup.captions.coco import CAPTIONS_JSON, read_coco_captions
from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams
from regroup.captions.table import LABELS, LabelTable, Ragged, read_vocabulary, vocabulary_path

TRAIN_CAPTIONS = 591_753  # of COCO train2017
THESIS = {"freq1k": 1000, "freq5k": 5000}  # section 5.7.1
PLACES = 5

Labels = frozenset[int]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, default=os.environ.get("REGROUP_COCO_CAPTIONS"))
    parser.add_argument("--labels", type=Path)
    arguments = parser.parse_args()
    if arguments.labels is not None:
        compare(arguments.labels)
    elif arguments.captions is not None:
        with tempfile.TemporaryDirectory() as folder:
            compare(tagged(Path(arguments.captions), Path(folder)))
    else:
        parser.error("give --captions or --labels")


def tagged(captions: Path, folder: Path) -> Path:
    """Labels of a captions file, with the thesis's vocabularies."""
    (folder / CAPTIONS_JSON).parent.mkdir()
    shutil.copyfile(captions, folder / CAPTIONS_JSON)
    scale = len(read_coco_captions(captions).captions) / TRAIN_CAPTIONS
    above = {name: int(count * scale) for name, count in THESIS.items()}
    extract_labels(folder, folder / "labels", NounsParams(vocabularies=above))
    return folder / "labels"


def compare(folder: Path) -> None:
    table = LabelTable.open(folder / LABELS)
    nouns, text, code = map(sets, (table.nouns, table.phrases, table.published_phrases))
    print(f"{len(table):,} captions. Phrase sets equal: {share(lambda t, c: t == c, text, code)}")
    print(f"with nouns: {share(lambda n, t, c: n | t == n | c, nouns, text, code)}")
    for name, phrases in (("text", text), ("code", code)):
        few = share(lambda n, p: len(n | p) < PLACES, nouns, phrases)
        print(f"fewer than {PLACES} labels by the {name}: {few}")
    for name in THESIS:
        if vocabulary_path(folder, name).is_file():
            curated(frozenset(table.label_ids(read_vocabulary(folder, name)).tolist()), name, nouns, code)


def curated(wanted: Labels, name: str, nouns: Sequence[Labels], phrases: Sequence[Labels]) -> None:
    """What a caption's labels are drawn from with a vocabulary."""
    none_left = [noun & wanted or noun for noun in nouns]
    too_few = [noun & wanted if len(noun & wanted) >= PLACES else noun for noun in nouns]
    as_coded = [kept | phrase for kept, phrase in zip(none_left, phrases, strict=True)]
    everything = [noun | phrase for noun, phrase in zip(nouns, phrases, strict=True)]
    differ: Callable[[Labels, Labels], bool] = frozenset.__ne__
    print(
        f"{name}: {len(wanted)} nouns. Candidates differ, nouns alone by fallback: "
        f"{share(differ, none_left, too_few)}; code from text: {share(differ, as_coded, too_few)}; "
        f"code from no vocabulary: {share(differ, as_coded, everything)}"
    )


def sets(labels: Ragged) -> list[Labels]:
    return [frozenset(labels.row(row).tolist()) for row in range(len(labels))]


def share(holds: Callable[..., bool], *columns: Sequence[Labels]) -> str:
    """In how many captions it holds."""
    found = [holds(*row) for row in zip(*columns, strict=True)]
    return f"{sum(found) / len(found):.1%}"


if __name__ == "__main__":
    main()
