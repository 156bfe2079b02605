"""What only a CUDA device can show."""

from __future__ import annotations

import pytest
import torch

from regroup.adaptation.parts import set_trainable
from regroup.model import GroupViT

from .conftest import make_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


def test_the_same_features_as_on_the_cpu(small: GroupViT, pixels: torch.Tensor) -> None:
    tokens = make_tokens([[300], [301, 302]])
    image, text = small.encode_image(pixels, return_attention=True), small.encode_text(tokens)
    small.cuda()
    other = small.encode_image(pixels.cuda(), return_attention=True)
    torch.testing.assert_close(other.feature.cpu(), image.feature, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(other.attention.cpu(), image.attention, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(small.encode_text(tokens.cuda()).cpu(), text, atol=1e-4, rtol=1e-3)


def test_a_compiled_step_in_bf16(small: GroupViT, pixels: torch.Tensor) -> None:
    small.cuda().train()
    set_trainable(small, "both_gbs")
    pixels = pixels.cuda()
    noise = small.draw_noise(pixels, torch.Generator("cuda").manual_seed(0))
    plain = small.encode_image(pixels, noise=noise).feature
    small.image.compile()
    with torch.autocast("cuda", torch.bfloat16):
        feature = small.encode_image(pixels, noise=noise).feature
    assert float(torch.cosine_similarity(feature.float(), plain).detach().min()) > 0.95
    feature.float().square().sum().backward()
    gradients = [p.grad for p in small.parameters() if p.requires_grad]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
