"""Heads: what is built, from which draws, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from regroup.errors import RegroupError
from regroup.heads import HEADS, HeadOptions, build_heads, learning_rates
from regroup.model import GroupViTConfig
from regroup.plugins import Use
from regroup.variants_file import load_variants, plugin_faults


def test_a_pair_s_logit_is_scaled_and_shifted() -> None:
    heads = build_heads(GroupViTConfig(), [Use(name="pair_scale", options={"scale": 4, "bias": -3})], seed=0)
    cosines = torch.tensor([[0.5, -0.25], [1.0, 0.0]])
    torch.testing.assert_close(heads["pair_scale"](cosines), torch.tensor([[-1.0, -4.0], [1.0, -3.0]]))
    assert sum(parameter.numel() for parameter in heads.parameters()) == 2


def test_weights_follow_from_the_seed_and_no_global_generator_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Linear(ModuleType):
        """A head that draws as layers do by themselves, and more from what it is given."""

        Options = HeadOptions

        @staticmethod
        def build(config: GroupViTConfig, options: HeadOptions, generator: torch.Generator) -> nn.Module:
            layer = nn.Linear(4, 4)
            nn.init.normal_(layer.bias, generator=generator)
            return layer

    load = type(HEADS).load
    monkeypatch.setattr(
        type(HEADS), "load", lambda room, name: Linear(name) if name == "linear" else load(room, name)
    )
    state = torch.get_rng_state()
    built = []
    for seed, moved in ((7, 0), (7, 1), (8, 1)):
        torch.manual_seed(moved)
        before = torch.get_rng_state()
        built.append(build_heads(GroupViTConfig(), [Use(name="linear")], seed=seed)["linear"])
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    for name in ("weight", "bias"):
        first, again, other = (getattr(head, name) for head in built)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "pair_scales"}], "no such head; did you mean `pair_scale`"),
        ([{"name": "pair_scale"}, {"name": "pair_scale"}], "pair_scale: listed twice"),
        ([{"name": "pair_scale", "options": {"scale": 0}}], "heads: pair_scale: scale: .*greater than 0"),
        ([{"name": "pair_scale", "options": {"rates": 2}}], "rates: unknown key; did you mean `rate`"),
        ([{"name": "pair_scale", "options": {"rate": 0}}], "rate: .*greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        build_heads(GroupViTConfig(), [Use.model_validate(entry) for entry in entries], seed=0)


def test_rates_are_multiples_of_the_run_s() -> None:
    entries = [Use(name="pair_scale", options={"rate": 2.5})]
    assert learning_rates(entries) == {"pair_scale": 2.5}
    assert learning_rates([Use(name="pair_scale")]) == {"pair_scale": 1.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("objectives: [{name: pairwise_sigmoid}]", "heads: pairwise_sigmoid needs the head pair_scale; add"),
        (
            "objectives: [{name: contrastive}], heads: [{name: pair_scale}]",
            "heads: pair_scale: no objective of this variant uses it; drop it",
        ),
        (
            "objectives: [{name: pairwise_sigmoid}], heads: [{name: pair_scale, options: {bias: deep}}]",
            "heads.pair_scale: bias: .*number",
        ),
    ],
)
def test_variants_must_list_the_heads_that_their_objectives_use(
    tmp_path: Path, fields: str, message: str
) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text(f"variants:\n  pairs: {{title: Pairs, {fields}}}\n")
    faults = list(plugin_faults(load_variants(file), file))
    assert len(faults) == 1
    assert re.search(rf"variants\.pairs\.{message}", faults[0]), faults[0]
