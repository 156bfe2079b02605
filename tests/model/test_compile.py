"""The towers are one graph each; the eager backend traces as any other would, in seconds."""

from __future__ import annotations

import pytest
import torch

from regroup.adaptation.parts import set_trainable
from regroup.model import GroupViT, ImageEncoding
from regroup.model.checkpoint import with_stage_two

from .conftest import make_tokens
from .test_stage_two import network

# torch's own tracer instantiates autograd functions
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh() -> None:
    torch.compiler.reset()


def check_training_step(model: GroupViT, pixels: torch.Tensor) -> None:
    """One graph forwards and backwards, and the same result as without."""
    noise = model.train().draw_noise(pixels, torch.Generator().manual_seed(0))

    def forward(pixels: torch.Tensor) -> ImageEncoding:
        return model.encode_image(pixels, noise=noise, return_attention=True)

    compiled = torch.compile(forward, fullgraph=True, backend="eager")(pixels)
    compiled.feature.sum().backward()
    torch.testing.assert_close(compiled.attention, forward(pixels).attention)


def test_training_step_of_the_image_side(small: GroupViT, pixels: torch.Tensor) -> None:
    set_trainable(small, "both_gbs")
    check_training_step(small, pixels)


def test_inference_of_both_sides(small: GroupViT, pixels: torch.Tensor) -> None:
    image = torch.compile(small.encode_image, fullgraph=True, backend="eager")
    assert torch.equal(image(pixels).feature, small.encode_image(pixels).feature)
    tokens = make_tokens([[300], [301, 302]], columns=12)
    text = torch.compile(small.encode_text, fullgraph=True, backend="eager")
    torch.testing.assert_close(text(tokens), small.encode_text(tokens), atol=1e-6, rtol=1e-5)


def test_features_as_input_of_the_second_stage(small: GroupViT, pixels: torch.Tensor) -> None:
    fed = with_stage_two(small, network())
    set_trainable(fed, "gb2")
    check_training_step(fed, pixels)
