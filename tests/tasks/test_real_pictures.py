"""Real pictures and captions, weights of chance: what guessing scores is known, and comes out."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from regroup.model import GroupViT
from regroup.tasks import Work, evaluation

SEEDS = 10


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pictures of val2017 that are there, and each caption of them against another picture's."""
    pictures, captions = (os.environ.get(name) for name in ("REGROUP_COCO_REAL", "REGROUP_COCO_CAPTIONS"))
    if not (pictures and captions):
        pytest.skip(
            "REGROUP_COCO_REAL and REGROUP_COCO_CAPTIONS do not name pictures and captions of val2017"
        )
    folder = tmp_path_factory.mktemp("real")
    (folder / "annotations").mkdir()
    (folder / "val2017").symlink_to(Path(pictures, "val2017").absolute())
    document, there = json.loads(Path(captions).read_text()), set(os.listdir(folder / "val2017"))  # noqa: PTH208
    images = {image["id"]: image for image in document["images"] if image["file_name"] in there}
    told = [one for one in document["annotations"] if one["image_id"] in images]
    content = {"images": list(images.values()), "annotations": told}
    (folder / "annotations/captions_val2017.json").write_text(json.dumps(content))
    others = np.random.default_rng(0).permutation(len(told))
    pairs = {
        str(k): {
            "filename": images[one["image_id"]]["file_name"],
            "caption": one["caption"],
            "negative_caption": told[other]["caption"],
        }
        for k, (one, other) in enumerate(zip(told, others, strict=True))
        if told[other]["image_id"] != one["image_id"]
    }
    (folder / "pairs").mkdir()
    (folder / "pairs/replace_obj.json").write_text(json.dumps(pairs))
    return {"coco": folder, "compositions": folder / "pairs"}


def of_chance(model: GroupViT, seed: int) -> GroupViT:
    model, generator = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for projector in (model.image_projector, model.text_projector):
            for weights in projector.parameters():
                if weights.ndim > 1:
                    weights.normal_(generator=generator).mul_(weights.shape[1] ** -0.5)
    return model


def test_weights_of_chance_guess(model: GroupViT, roots: dict[str, Path]) -> None:
    recalls, right = [], []
    for seed in range(SEEDS):
        other = of_chance(model, seed)
        retrieved = evaluation("retrieval", {}).run(other, Work(roots)).datasets["coco"]
        recalls.append([retrieved.values[f"image_r{k}"] for k in (1, 5, 10)])
        chosen = evaluation("compositionality", {}).run(other, Work(roots)).datasets["compositions"]
        right.append(chosen.values["replace_obj"])
    guessed = [retrieved.details["chance"][f"image_r{k}"] for k in (1, 5, 10)]
    assert np.mean(recalls, axis=0) == pytest.approx(guessed, rel=0.2, abs=0.5)
    assert np.mean(right) == pytest.approx(50, abs=3)
