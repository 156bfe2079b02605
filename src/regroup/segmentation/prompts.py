"""Class embeddings: prompts through the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.captions.tokens import tokenize

if TYPE_CHECKING:
    from regroup.model import GroupViT


@torch.inference_mode()
def embed_prompts(model: GroupViT, prompts: Sequence[str]) -> Tensor:
    """Embed texts: [N, C], L2-normalised, on the model's device (eq. 22)."""
    tokens = torch.from_numpy(tokenize(prompts, context=model.config.text.context))
    features = model.encode_text(tokens.to(model.logit_scale.device))
    return F.normalize(features.float(), dim=-1)
