"""The pairwise sigmoid loss against a plain loop over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from regroup.heads.pair_scale import PairScale
from regroup.objectives import ObjectiveInputs, Term, total_loss


def test_it_is_the_sum_over_pairs_of_each_one_s_own_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    image, caption = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    scale, bias = 4.0, -1.5
    heads = {"pair_scale": PairScale(scale, bias).double()}
    one = torch.tensor(1.0, dtype=torch.float64)
    inputs = ObjectiveInputs(
        image=image, caption=caption, logit_scale=one, multi_label_logit_scale=one, heads=heads
    )
    wanted = 0.0
    for i, z in enumerate(image.tolist()):
        for j, t in enumerate(caption.tolist()):
            cosine = sum(a * b for a, b in zip(z, t, strict=True)) / (math.hypot(*z) * math.hypot(*t))
            probability = 1 / (1 + math.exp(-(scale * cosine + bias)))
            wanted -= math.log(probability if i == j else 1 - probability) / 5
    # the head keeps the logarithm of its scale, made in float32
    got = total_loss([Term(name="pairwise_sigmoid")], inputs).loss.item()
    assert got == pytest.approx(wanted, rel=1e-6)
