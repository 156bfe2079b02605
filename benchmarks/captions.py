"""Captions: labels by our tagger and by NLTK's in its place, shards against tar, decoding and augmentation.

    python benchmarks/captions.py --captions captions_val2017.json --coco FOLDER

FOLDER is in COCO's layout (annotations/captions_train2017.json and train2017/); some images will do.
REGROUP_COCO_CAPTIONS and REGROUP_COCO_REAL may name the two instead. Times are medians; what is compared runs
in turns in this one process. "A core" is processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Result, alternate, record, seconds

from regroup.captions.coco import read_coco_captions
from regroup.captions.images import decode_rgb
from regroup.captions.index import INDEX, read_index
from regroup.captions.labels import extract_labels
from regroup.captions.perceptron import nltk_tagger
from regroup.captions.randomness import sample_keys
from regroup.captions.reader import CaptionReader
from regroup.captions.sampling import LabelSampler
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.table import LABELS, LabelTable
from regroup.captions.tagging import find_nouns
from regroup.captions.verify import verify_shards
from regroup.captions.weights import TaggerWeights, load_weights
from regroup.training.augmentation import Augmentation

TRAIN_CAPTIONS = 591_753  # of COCO train2017
THESIS = {1000: 383, 5000: 88}  # nouns above so many occurrences in train2017 (section 5.7.1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, default=os.environ.get("REGROUP_COCO_CAPTIONS"))
    parser.add_argument("--coco", type=Path, default=os.environ.get("REGROUP_COCO_REAL"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.captions is None and arguments.coco is None:
        parser.error("give --captions, --coco or both")
    if arguments.captions is not None:
        tagging(Path(arguments.captions))
    if arguments.coco is not None:
        with tempfile.TemporaryDirectory() as folder:
            shards(Path(arguments.coco), Path(folder))
            pixels(Path(arguments.coco))


class PlainTagger:
    """NLTK's own tagger, a sentence at a time, in the place of ours: what `perceptron.py` saves."""

    def __init__(self, weights: TaggerWeights) -> None:
        self._nltk = nltk_tagger(weights)
        self.tag_names = weights.classes
        self._number = {name: number for number, name in enumerate(self.tag_names)}

    def tag_numbers(self, sentences: Sequence[Sequence[str]]) -> list[list[int]]:
        return [[self._number[tag] for _, tag in self._nltk.tag(sentence)] for sentence in sentences]


def tagging(path: Path) -> None:
    captions = read_coco_captions(path).captions
    weights = load_weights("textblob")
    plainly = partial(find_nouns, weights=weights, make_tagger=PlainTagger)
    found, expected = find_nouns(captions, weights), plainly(captions)
    differing = sum(
        found.nouns[row] != expected.nouns[row] or found.phrases[row] != expected.phrases[row]
        for row in range(len(captions))
    )
    print(f"{len(captions)} captions: {differing} with other labels than by NLTK's own tagger")
    ours = processor_seconds(lambda: find_nouns(captions, weights), repeats=3)
    nltk = processor_seconds(lambda: plainly(captions), repeats=3)

    many = [f"{number} {caption}" for number in range(12) for caption in captions]  # distinct, so tagged anew
    two, two_plain = alternate(
        lambda: find_nouns(many, weights, processes=2), lambda: plainly(many, processes=2), repeats=1
    )
    peak = [peak_memory(path, count) for count in (1, 12)]
    scale = TRAIN_CAPTIONS / len(captions)
    record(
        [
            Result("labels, a core", "captions/s", len(captions) / ours, len(captions) / nltk, nltk / ours),
            Result(
                "labels, 2 processes", "captions/s", len(many) / two, len(many) / two_plain, two_plain / two
            ),
            Result("labels of train2017 projected, a core", "s", scale * ours, scale * nltk, nltk / ours),
            Result(f"labels of {len(captions)} captions, peak memory", "MB", peak[0]),
            Result(f"labels of {len(many)} captions, peak memory", "MB", peak[1]),
        ]
    )
    counts = [count for _, count in find_nouns(captions, weights).nouns.counts()]
    print(f"distinct nouns: {len(counts)} (train2017 in the thesis: 27,089)")
    for above, reference in THESIS.items():
        scaled = above * len(captions) / TRAIN_CAPTIONS
        found = sum(count > scaled for count in counts)
        error = scaled**0.5  # of a count in a sample of the captions
        band = [sum(count > scaled + sign * error for count in counts) for sign in (1, -1)]
        print(
            f"nouns above {above:,} x {len(captions):,}/{TRAIN_CAPTIONS:,} = {scaled:.1f}: {found}, thesis"
            f" {reference} ({found / reference - 1:+.1%}; {band[0]} to {band[1]} within one standard error"
            " of the threshold)"
        )


_EXTRACT = """
import re, sys
from pathlib import Path
from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams
extract_labels(Path(sys.argv[1]), Path(sys.argv[1], "out"), NounsParams())
# not getrusage: its maximum includes the process this one was forked from
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak_memory(path: Path, copies: int) -> float:
    """Peak memory (MB) of a process that makes the label files of `copies` times the captions."""
    document = json.loads(path.read_text())
    document["annotations"] = [
        {**entry, "id": copy * 10**9 + entry["id"], "caption": f"{copy} {entry['caption']}"}
        for copy in range(copies)
        for entry in document["annotations"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "annotations", "captions_train2017.json")
        target.parent.mkdir()
        target.write_text(json.dumps(document))
        command = [sys.executable, "-c", _EXTRACT, folder]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024


def enlarged(coco: Path, folder: Path, copies: int) -> Path:
    """The images several times, as files of their own."""
    source = read_coco_captions(coco / "annotations" / "captions_train2017.json")
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    number = 0
    for copy in range(copies):
        for image in source.images:
            image_id, name = image.id + copy * 10**7, f"{copy:03d}-{image.file_name}"
            shutil.copyfile(coco / "train2017" / image.file_name, folder / "train2017" / name)
            size = {"width": image.width, "height": image.height}
            document["images"].append({"id": image_id, "file_name": name, **size})
            for caption in image.captions:
                number += 1
                document["annotations"].append({"id": number, "image_id": image_id, "caption": caption.text})
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(document))
    return folder


def shards(coco: Path, folder: Path) -> None:
    big = enlarged(coco, folder / "coco", 20)
    images = len(list((big / "train2017").iterdir()))
    out, tar = folder / "shards", folder / "plain.tar"
    params = ShardsParams(images_per_shard=800, threads=2)

    def plain() -> None:
        tar.unlink(missing_ok=True)
        subprocess.run(["tar", "-cf", tar, "-C", big, "train2017"], check=True)
        os.sync()  # shards are on the disk when they are done, so the tar has to be

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        build_shards(big, out, params)
        os.sync()

    built, copied = alternate(ours, plain, repeats=5)
    check_shards(out, big)
    results = [
        Result(
            "shards without re-encoding, 2 threads",
            "images/s",
            images / built,
            images / copied,
            copied / built,
        )
    ]

    for workers in (0, 1, 2):
        reader = CaptionReader(out, seed=0, batch_size=64, workers=workers, epoch_samples=3200)
        rate = 3200 / seconds(lambda reader=reader: [None for _ in reader.epoch(0)], repeats=1)
        results.append(Result(f"reading and decoding, {workers} workers", "samples/s", rate))
    raw = CaptionReader(out, seed=0, batch_size=64, decode=False)
    results.append(
        Result("reading bytes", "samples/s", raw.captions / seconds(lambda: [None for _ in raw.epoch(0)]))
    )
    extract_labels(big, folder / "captions", NounsParams())
    sampler = LabelSampler(LabelTable.open(folder / "captions" / LABELS), seed=0)
    rows = np.random.default_rng(0).integers(0, len(sampler.table), 256)
    results.append(
        Result("sampling 5 labels", "captions/s", 256 / seconds(lambda: sampler.sample(rows, 0), 50))
    )
    texts = sampler.sample(rows, 0).label_texts
    texts = texts[texts >= 0]
    results.append(
        Result("texts to tokens", "texts/s", len(texts) / seconds(lambda: sampler.tokens(texts), 50))
    )
    record(results)


def processor_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median processor time of this process for `work`: what a core costs, whoever else uses the machine."""

    def once() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return statistics.median(once() for _ in range(repeats))


def check_shards(out: Path, coco: Path) -> None:
    """Verify shards and compare every image in them with its file."""
    report = verify_shards(out, decode=True)
    index = read_index(out / INDEX).to_pylist()
    same = 0
    for entry in index:
        with (out / entry["shard"]).open("rb") as file:
            file.seek(entry["offset"])
            same += file.read(entry["size"]) == (coco / "train2017" / entry["file_name"]).read_bytes()
    exact = f"{same} of {len(index)} images bit-exact"
    print(f"{report.shards} shards verified, {len(report.problems)} faults; {exact}")


def pixels(coco: Path) -> None:
    """Decoding and augmentation a core; kornia, if it is installed, on the same crops in a batch."""
    contents = [path.read_bytes() for path in sorted((coco / "train2017").glob("*.jpg"))[:64]]
    images = [decode_rgb(content) for content in contents]
    keys = sample_keys(0, 0, np.arange(len(images)))
    decoding = processor_seconds(lambda: [decode_rgb(content) for content in contents])
    results = [Result("decoding, a core", "images/s", len(images) / decoding)]
    for size in (96, 224):
        augment = Augmentation(size)
        work, other = partial(augment, images, keys=keys), _kornia(size)
        if other is None:
            ours, theirs = processor_seconds(work), None
        else:
            ours, theirs = alternate(work, partial(other, torch.rand(len(images), 3, size, size)), repeats=5)
        count = len(images)
        results.append(
            Result(
                f"augmentation to {size} px, a core",
                "images/s",
                count / ours,
                None if theirs is None else count / theirs,
                None if theirs is None else theirs / ours,
            )
        )
        results.append(
            Result(f"decoding and augmentation to {size} px, a core", "images/s", count / (ours + decoding))
        )
    record(results)


def _kornia(size: int) -> torch.nn.Module | None:
    """The same steps by kornia, on a batch that is already cropped to one size (it cannot take several)."""
    try:
        import kornia.augmentation as kornia
        from kornia.augmentation.auto import RandAugment
    except ImportError:
        return None
    return torch.nn.Sequential(
        kornia.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        kornia.RandomHorizontalFlip(),
        RandAugment(n=2, m=9),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.0),
        kornia.RandomErasing(p=0.25),
    )


if __name__ == "__main__":
    main()
