"""Names of the parts that can be trained; apart from `trainable`, so that settings need no torch."""

from __future__ import annotations

from typing import Literal

Part = Literal[
    "nothing",
    "both_gbs",
    "gb2",
    "both_gbs+image_projector",
    "gb2+image_projector",
    "both_gbs+projectors",
    "gb2+projectors",
    "image_projector",
    "projectors",
    "image_tower",
    "all",
]
"""Names as in Table 3.

`both_gbs` are all grouping blocks, `gb2` the last one, both without the group tokens; `projectors` are both
projectors; `image_tower` is everything before the image projector; `all` is the whole model, scales included.
"""

FrozenBatchNorm = Literal["train", "eval"]
