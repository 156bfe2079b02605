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


def tokenise(texts: tuple[str, ...], context: int) -> Tensor:
    """CLIP ids of texts: int64 [N, context], zeros after end-of-text; longer texts are cut."""
    tokens = _tokenizer().tokenize_batch(list(texts), context_length=context)
    return torch.from_numpy(np.asarray(tokens, dtype=np.int64))


@torch.inference_mode()
def embed_prompts(model: GroupViT, prompts: tuple[str, ...]) -> Tensor:
    """Embed texts: [N, C], L2-normalised, on the model's device (eq. 22)."""
    tokens = tokenise(prompts, model.config.text.context).to(model.logit_scale.device)
    return F.normalize(model.encode_text(tokens).float(), dim=-1)
