"""Class embeddings: prompts through the text tower, once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from instant_clip_tokenizer import Tokenizer
from torch import Tensor

if TYPE_CHECKING:
    from regroup.model import GroupViT


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()


@torch.inference_mode()
def embed_prompts(model: GroupViT, prompts: tuple[str, ...]) -> Tensor:
    """Embed texts: [N, C], L2-normalised, on the model's device (eq. 22)."""
    device = model.logit_scale.device
    tokens = _tokenizer().tokenize_batch(list(prompts), context_length=model.config.text.context)
    features = model.encode_text(torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(device))
    return F.normalize(features.float(), dim=-1)
