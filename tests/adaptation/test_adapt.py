"""A list of adaptations: what each trains, in whatever order, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from regroup.adaptation import Adapted, adapt
from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.plugins import Use
from regroup.variants import Variant
from tests.training.tiny import model


def apply(adapted: GroupViT, *entries: dict[str, Any], seed: int = 7) -> Adapted:
    return adapt(adapted, [Use.model_validate(entry) for entry in entries], seed=seed)


def lora(**options: Any) -> dict[str, Any]:
    return {"name": "lora", "options": {"rank": 4, **options}}


def parts(train: str) -> dict[str, Any]:
    return {"name": "parts", "options": {"train": train}}


def learning(adapted: GroupViT) -> set[str]:
    return {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [
        ("both_gbs", ("image.stages.0.grouping.", "image.stages.1.grouping.")),
        ("gb2+projectors", ("image.stages.1.grouping.", "image_projector.", "text_projector.")),
        ("all", ("",)),
    ],
)
def test_the_short_form_of_a_part_is_a_list_of_one(part: str, prefixes: tuple[str, ...]) -> None:
    listed = model()
    short = Variant.model_validate({"title": "", "trainable": part})
    assert short.adapt == ((Use.model_validate(parts(part)),) if prefixes else ())
    adapted = adapt(listed, short.adapt, seed=7)
    wanted = {name: weight for name, weight in listed.named_parameters() if name.startswith(prefixes)}
    assert learning(listed) == set(wanted)
    count = sum(weight.numel() for weight in wanted.values())
    assert adapted.trained == ({"parts": count} if prefixes else {})
    assert adapted.exported(listed) is listed


def test_an_empty_list_freezes_everything() -> None:
    frozen = model()
    assert str(apply(frozen)) == "0 trained parameters"
    assert not learning(frozen)


def test_parts_and_lora_train_what_each_says_in_either_order() -> None:
    first, second = model(), model()
    one = apply(first, parts("gb2"), lora())
    two = apply(second, lora(), parts("gb2"))
    assert learning(first) == learning(second)
    assert dict(one.trained) == dict(two.trained)
    assert all("stages.1.grouping." in name or ".lora_" in name for name in learning(first))
    assert str(
        one
    ) == f"{sum(one.trained.values()):,} trained parameters (parts {one.trained['parts']:,}, " + (
        f"lora {one.trained['lora']:,})"
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_weights_that_would_learn_twice_are_refused(swapped: bool) -> None:
    entries = [parts("both_gbs"), lora(targets=["grouping_blocks"])]
    with pytest.raises(RegroupError, match="trained in full by one adaptation and adapted by another"):
        apply(model(), *(reversed(entries) if swapped else entries))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "lorra"}], "lorra: no such adaptation; did you mean `lora`"),
        ([parts("gb2"), parts("projectors")], "parts: listed twice"),
        ([parts("gb3")], "adapt: parts: train: .*'both_gbs'"),
        ([lora(ranks=2)], "adapt: lora: ranks: unknown key; did you mean `rank`"),
        ([lora(rank=0)], "adapt: lora: rank: .*greater than or equal to 1"),
        ([lora(dropout=1.0)], "adapt: lora: dropout: .*less than 1"),
        ([lora(targets=[])], "adapt: lora: targets: .*at least 1 item"),
        ([lora(targets=["image_attention", "image_attention"])], "targets: .*listed twice"),
        ([lora(targets=["attention"])], "adapt: lora: targets.0: .*'image_attention'"),
        ([lora(rank=32)], "rank: 32 is no low rank for image.stages.0.blocks.0.attention.qkv, 32 channels"),
    ],
)
def test_what_cannot_be_meant_is_refused(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        apply(model(), *entries)


def test_frozen_projectors_keep_their_statistics_where_asked() -> None:
    held = model().train()
    adapt(held, [Use(name="lora", options={"rank": 4})], seed=0, held_statistics=True)
    assert not held.image_projector.norm.training
    learns = model().train()
    entry = Use(name="lora", options={"rank": 4, "targets": ["projectors"]})
    adapt(learns, [entry], seed=0, held_statistics=True)
    assert learns.image_projector.norm.training


def test_nobody_pays_for_peft_who_does_not_use_it() -> None:
    code = (
        "import sys, regroup.variants_file, regroup.adaptation.lora\n"
        "assert 'torch' not in sys.modules\n"
        "import regroup.training.finetune\n"
        "assert 'torch' in sys.modules and 'peft' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_drawn_follows_from_the_seed_and_no_global_generator_moves() -> None:
    before = torch.get_rng_state()
    drawn = []
    for seed, moved in ((7, 0), (7, 1), (8, 1)):
        torch.manual_seed(moved)
        state = torch.get_rng_state()
        adapted = model()
        apply(adapted, lora(), seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        layer = adapted.image.stages[0].blocks[0].attention
        drawn.append(torch.cat([layer.qkv.lora_A["default"].weight, layer.out.lora_A["default"].weight]))
    torch.set_rng_state(before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0][:4], drawn[0][4:])
