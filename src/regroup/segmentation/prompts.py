"""Class embeddings: prompts through the text tower, remembered on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.captions.tokens import tokenize
from regroup.io import source_digest
from regroup.segmentation.reuse import digest_of, made_by, read_tensors, write_tensors

if TYPE_CHECKING:
    from regroup.model import Backbone

_HERE = "segmentation/prompts.py"


@torch.inference_mode()
def embed_prompts(model: Backbone, prompts: Sequence[str], cache: Path | None = None) -> Tensor:
    """Embed texts: [N, C], L2-normalised, on the model's device (eq. 22).

    Args:
        model: any mode; in training mode nothing is remembered.
        prompts: class names in their template.
        cache: a folder of embeddings made before, by whatever they depend on: the text side's weights, the
            prompts in their order, the model's code and the kind of machine. Any number of processes may
            share it, and it may be removed at any time. None remembers nothing.
    """
    if cache is None or model.training:
        return _embed(model, _tokens(model, prompts))
    tokens = _tokens(model, prompts)
    file = cache / _digest(model, tokens)
    if (stored := read_tensors(file)) is not None:
        return stored["embeddings"].to(model.device)
    embeddings = _embed(model, tokens)
    write_tensors(file, embeddings=embeddings)
    return embeddings


def _tokens(model: Backbone, prompts: Sequence[str]) -> Tensor:
    return torch.from_numpy(tokenize(prompts, context=model.context))


def _embed(model: Backbone, tokens: Tensor) -> Tensor:
    features = model.encode_text(tokens.to(model.device))
    return F.normalize(features.float(), dim=-1)


def _digest(model: Backbone, tokens: Tensor) -> str:
    """Hex SHA-256 of everything that embeddings depend on, to the last digit."""
    parts = {"text": model.text, "projector": model.text_projector}
    weights = {
        f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()
    }
    return digest_of(weights | {"tokens": tokens}, *made_by(model), model.config, source_digest(_HERE))
