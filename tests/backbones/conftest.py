from __future__ import annotations

from typing import Any

import pytest
import torch

from regroup.backbones.clip.network import MEAN, STD
from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD

transformers = pytest.importorskip("transformers", reason="the oracle of the parity tests")


def theirs(activation: str = "quick_gelu") -> Any:
    """A small `transformers.CLIPModel` with random weights, none of which is zero or one."""
    config = transformers.CLIPConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": activation,
        },
        text_config={
            "vocab_size": 49408,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "hidden_act": activation,
            "eos_token_id": 49407,
        },
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def random_pixels(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same images as CLIP takes them, and as the project does (ImageNet's statistics)."""
    grey = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        shape = (3, 1, 1)
        return ((grey - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)).float()

    return normalised(MEAN, STD), normalised(IMAGENET_MEAN, IMAGENET_STD)


def to_openai(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Hugging Face's tensors under the names and in the shapes of OpenAI's code."""
    renamed = {
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    norms = {
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.final_layer_norm": "ln_final",
    }
    towers = {
        "vision_model.encoder.layers": "visual.transformer.resblocks",
        "text_model.encoder.layers": "transformer.resblocks",
    }
    for leaf in ("weight", "bias"):
        for theirs_, openai in norms.items():
            renamed[f"{openai}.{leaf}"] = state[f"{theirs_}.{leaf}"]
        for theirs_, openai in towers.items():
            for number in range(3 if "vision" in theirs_ else 2):
                old, new = f"{theirs_}.{number}", f"{openai}.{number}"
                renamed[f"{new}.attn.in_proj_{leaf}"] = torch.cat(
                    [state[f"{old}.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
                )
                renamed[f"{new}.attn.out_proj.{leaf}"] = state[f"{old}.self_attn.out_proj.{leaf}"]
                for one, other in (
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    renamed[f"{new}.{other}.{leaf}"] = state[f"{old}.{one}.{leaf}"]
    return renamed
