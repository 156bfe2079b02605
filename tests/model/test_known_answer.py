"""Published logits: REGROUP_GROUPVIT_YFCC and REGROUP_GROUPVIT_REDCAPS name Hugging Face's folders.

Each folder holds the weights and the processor's files; REGROUP_COCO_REAL has the image, COCO val2017 39769.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from regroup.backbones import load_checkpoint

LOGITS = {"REGROUP_GROUPVIT_YFCC": (13.3523, 6.3629), "REGROUP_GROUPVIT_REDCAPS": (16.1873, 8.6230)}
TEXTS = ["a photo of a cat", "a photo of a dog"]


@pytest.mark.parametrize("variable", LOGITS)
def test_two_cats(variable: str) -> None:
    folder, coco = os.environ.get(variable), os.environ.get("REGROUP_COCO_REAL")
    if not folder or not coco:
        pytest.skip(f"{variable} and REGROUP_COCO_REAL do not name the weights and the image")
    transformers = pytest.importorskip("transformers", reason="its processor prepares the image")
    from PIL import Image

    processor = transformers.AutoProcessor.from_pretrained(folder)
    with Image.open(Path(coco) / "val2017" / "000000039769.jpg") as image:
        inputs = processor(text=TEXTS, images=image, return_tensors="pt", padding="max_length")
    model = load_checkpoint(Path(folder))
    with torch.no_grad():
        feature = torch.nn.functional.normalize(model.encode_image(inputs["pixel_values"]).feature, dim=-1)
        # the processor fills up with end-of-text, of which the first counts
        texts = torch.nn.functional.normalize(model.encode_text(inputs["input_ids"]), dim=-1)
        logits = model.logit_scale.exp() * feature @ texts.T
    torch.testing.assert_close(logits[0], torch.tensor(LOGITS[variable]), atol=1e-3, rtol=0)
