"""A small COCO folder, drawn here, and the optional real one."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.captions.settings import ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.weights import TaggerWeights, load_weights

CAPTIONS = (
    "A black dog runs on the green grass.",
    "Two children, a bowl of soup and a large wooden table",
    "The man's bike cannot stand here.",
    "a dog.",
    "People TYPING on laptops in the airport",
)


@pytest.fixture(scope="session")
def weights() -> TaggerWeights:
    return load_weights("textblob")


def jpeg(seed: int, width: int = 24, height: int = 16) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_coco(
    root: Path, captions: dict[int, Sequence[str]], images: dict[int, bytes] | None = None
) -> Path:
    """A folder in COCO's layout; image ids are the keys, caption ids are given backwards."""
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    number = sum(map(len, captions.values()))
    for image_id, texts in captions.items():
        name = f"{image_id:012d}.jpg"
        (root / "train2017" / name).write_bytes(jpeg(image_id) if images is None else images[image_id])
        document["images"].append({"id": image_id, "file_name": name, "width": 24, "height": 16})
        for text in texts:
            document["annotations"].append({"id": number, "image_id": image_id, "caption": text})
            number -= 1
    (root / "annotations" / "captions_train2017.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Seven images, of which one has no caption; ids not in order."""
    captions = {n: CAPTIONS[: n % 4 + 1] for n in (9, 3, 14, 7, 21, 5)}
    return write_coco(tmp_path / "coco", {**captions, 11: []})


def real_folder() -> Path:
    folder = os.environ.get("REGROUP_COCO_REAL")
    if not folder:
        pytest.skip("REGROUP_COCO_REAL (a folder with COCO's annotations/, train2017/, val2017/) is not set")
    return Path(folder)


def real_captions() -> list[str]:
    path = os.environ.get("REGROUP_COCO_CAPTIONS")
    if not path:
        pytest.skip("REGROUP_COCO_CAPTIONS (captions_val2017.json) is not set")
    return [entry["caption"] for entry in json.loads(Path(path).read_text())["annotations"]]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 images with 0 to 4 captions, 53 in all, in 5 shards."""
    root = tmp_path_factory.mktemp("reader") / "coco"
    write_coco(root, {n: [f"dog {n} {k}" for k in range(n * 7 % 5)] for n in range(1, 26)})
    build_shards(root, root.parent / "shards", ShardsParams(images_per_shard=5))
    return root.parent


@pytest.fixture(scope="session")
def shards(source: Path) -> Path:
    """Those shards; nobody writes into them."""
    return source / "shards"
