"""Runs with adapters and heads: they learn, resume to the same bytes, and leave plain checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from regroup.backbones import load_checkpoint
from regroup.errors import RegroupError
from regroup.heads import build_heads, load_heads, save_heads
from regroup.model import GroupViT, save_checkpoint
from regroup.training.parallel import is_first, joined, start
from regroup.training.settings import FinetuneParams
from regroup.training.snapshots import FOLDER, apply_snapshot, list_snapshots, move_snapshots
from regroup.variants import Variant

from .tiny import SETTINGS, VARIANT, finetune_until, model

LORA = {
    "name": "lora",
    "options": {"rank": 4, "dropout": 0.2, "targets": ["image_attention", "text_attention", "projectors"]},
}
SIGMOID = {"name": "pairwise_sigmoid"}
SHORT = SETTINGS.model_copy(update={"max_steps": 4})


def variant(**changes: Any) -> Variant:
    return Variant.model_validate(VARIANT.model_dump() | changes)


ADAPTED = variant(
    adapt=[{"name": "parts", "options": {"train": "gb2"}}, LORA],
    objectives=[{"name": "contrastive"}, SIGMOID],
    heads=[{"name": "pair_scale", "options": {"rate": 5}}],
)


def train(
    corpus: Path,
    state: Path,
    run: Variant = ADAPTED,
    settings: FinetuneParams = SETTINGS,
    *,
    stop_at: int = 0,
    device: torch.device | str = "cpu",
    double: bool = False,
) -> tuple[GroupViT, nn.ModuleDict]:
    """The model and the heads as the run left them; with `stop_at`, it is killed there."""
    trained = model(drop_path=0.0)
    heads = build_heads(trained.config, run.heads, seed=run.seed)
    if double:
        trained, heads = trained.double(), heads.double()
    finetune_until(stop_at, trained, corpus, state, run, settings, device=device, heads=heads)
    return trained, heads


def written(folder: Path, run: Variant, trained: GroupViT, heads: nn.ModuleDict) -> dict[str, bytes]:
    save_checkpoint(trained, folder)
    save_heads(heads, run.heads, folder)
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}


def test_a_killed_run_with_adapters_and_heads_ends_in_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"snapshots": 2, "max_steps": 8})
    files = []
    for name in ("undisturbed", "killed"):
        if name == "killed":
            train(corpus, tmp_path / name, settings=settings, stop_at=6)
            torch.manual_seed(99)
        trained, heads = train(corpus, tmp_path / name, settings=settings)
        move_snapshots(tmp_path / name / FOLDER, tmp_path / "runs" / name)
        files.append(written(tmp_path / "runs" / name, ADAPTED, trained, heads))
    assert set(files[0]) == {
        "model.safetensors",
        "config.json",
        "heads.safetensors",
        "heads.json",
        "snapshots/step-000004.safetensors",
        "snapshots/step-000008.safetensors",
    }
    assert files[0] == files[1]


def test_a_checkpoint_is_plain_and_whole_and_its_snapshots_fit(corpus: Path, tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"snapshots": 2})
    trained, heads = train(corpus, tmp_path / "state", settings=settings)
    move_snapshots(tmp_path / "state" / FOLDER, tmp_path / "run")
    written(tmp_path / "run", ADAPTED, trained, heads)

    loaded = load_checkpoint(tmp_path / "run")
    assert str(loaded) == str(model(drop_path=0.0))
    before, end = model(drop_path=0.0).state_dict(), loaded.state_dict()
    moved = {name for name in before if not torch.equal(before[name], end[name])}
    for part in (
        "stages.1.grouping.",
        "attention.qkv.weight",
        "text.blocks.0.attention.out.weight",
        "hidden.w",
    ):
        assert any(part in name for name in moved), part
    assert not [
        name for name in moved if "stages.0.grouping." in name or (".mlp.up" in name and "text" in name)
    ]

    start_again = model(drop_path=0.0)
    beside = build_heads(start_again.config, ADAPTED.heads, seed=0)
    snapshots = list_snapshots(tmp_path / "run")
    apply_snapshot(start_again, snapshots[-1], beside)
    assert all(torch.equal(tensor, end[name]) for name, tensor in start_again.state_dict().items())
    assert all(torch.equal(tensor, heads.state_dict()[name]) for name, tensor in beside.state_dict().items())
    apply_snapshot(start_again, snapshots[0])
    early = start_again.state_dict()
    assert not torch.equal(
        early["image.stages.0.blocks.0.attention.qkv.weight"],
        end["image.stages.0.blocks.0.attention.qkv.weight"],
    )


def test_heads_are_trained_at_their_own_rate_saved_and_loaded(corpus: Path, tmp_path: Path) -> None:
    moved = {}
    for rate in (1, 10):
        run = variant(objectives=[SIGMOID], heads=[{"name": "pair_scale", "options": {"rate": rate}}])
        trained, heads = train(corpus, tmp_path / f"state-{rate}", run, SHORT)
        written(tmp_path / str(rate), run, trained, heads)
        loaded = load_heads(tmp_path / str(rate), load_checkpoint(tmp_path / str(rate)).config)
        assert not loaded.training
        assert loaded.state_dict().keys() == heads.state_dict().keys()
        assert all(
            torch.equal(tensor, heads.state_dict()[key]) for key, tensor in loaded.state_dict().items()
        )
        moved[rate] = heads["pair_scale"].bias.item() + 10
    assert abs(moved[1]) > 1e-4
    assert abs(moved[10]) > 5 * abs(moved[1])


def test_heads_alone_can_be_trained(corpus: Path, tmp_path: Path) -> None:
    run = variant(adapt=[], objectives=[SIGMOID], heads=[{"name": "pair_scale"}])
    before = dict(model(drop_path=0.0).named_parameters())
    for chunks in (1, 2):
        settings = SHORT.model_copy(update={"chunks": chunks, "max_steps": 2})
        trained, heads = train(corpus, tmp_path / str(chunks), run, settings)
        assert heads["pair_scale"].bias.item() != -10
        assert all(torch.equal(tensor, before[name]) for name, tensor in trained.named_parameters())


def test_a_run_without_heads_leaves_no_file_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text("[]")
    assert set(written(tmp_path, VARIANT, model(), nn.ModuleDict())) == {"model.safetensors", "config.json"}
    assert len(load_heads(tmp_path, model().config)) == 0


def test_damaged_files_of_heads_are_refused(tmp_path: Path) -> None:
    config = model().config
    heads = build_heads(config, ADAPTED.heads, seed=0)
    save_heads(heads, ADAPTED.heads, tmp_path)
    save_heads(nn.ModuleDict({"other": nn.Linear(2, 2)}), ADAPTED.heads, tmp_path)
    with pytest.raises(
        RegroupError, match=r"heads.safetensors: does not fit .*other.bias, .*pair_scale.bias"
    ):
        load_heads(tmp_path, config)
    with torch.no_grad():
        heads["pair_scale"].bias.fill_(float("nan"))
    save_heads(heads, ADAPTED.heads, tmp_path)
    with pytest.raises(RegroupError, match=r"heads.safetensors: .*pair_scale.bias"):
        load_heads(tmp_path, config)
    (tmp_path / "heads.json").write_text('[{"name": "pair_scale", "options": {"scale": -1}}]')
    with pytest.raises(RegroupError, match=r"heads: pair_scale: scale: .*greater than 0"):
        load_heads(tmp_path, config)


@pytest.mark.parametrize(("target", "kept"), [("image_attention", False), ("grouping_blocks", True)])
def test_first_stages_are_kept_only_where_nothing_before_them_learns(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, kept: bool
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "regroup.training.data.CaptionData.keep_first_stages", lambda self, tower, *, room: asked.append(room)
    )
    run = variant(adapt=[{"name": "lora", "options": {"rank": 4, "targets": [target]}}])
    settings = SETTINGS.model_copy(update={"views": 2, "max_steps": 1})
    train(corpus, tmp_path, run, settings)
    assert bool(asked) == kept


def test_chunks_train_what_the_whole_batch_does(corpus: Path, tmp_path: Path) -> None:
    """Dropout included: the second pass of a chunk drops what the first did."""
    ends = []
    for chunks in (1, 3):
        own = SHORT.model_copy(update={"chunks": chunks})
        trained, heads = train(corpus, tmp_path / str(chunks), settings=own, double=True)
        ends.append({**trained.state_dict(), **heads.state_dict()})
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=0, atol=1e-8, msg=name)


def train_in_processes(corpus: Path, folder: Path, run: Variant) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as device:
        trained, heads = train(corpus, folder / "state", run, SHORT, device=device, double=True)
        if is_first():
            torch.save({**trained.state_dict(), **heads.state_dict()}, folder / "end.pt")


@pytest.mark.slow
def test_two_processes_train_adapters_and_heads_as_one_does(corpus: Path, tmp_path: Path) -> None:
    # texts are dropped by process, images by their place in the batch: so no dropout of texts here
    lora = {
        "name": "lora",
        "options": {"rank": 4, "dropout": 0.2, "targets": ["image_attention", "image_mlp"]},
    }
    run = variant(adapt=[lora], objectives=ADAPTED.objectives, heads=ADAPTED.heads)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    train_in_processes(corpus, tmp_path / "one", run)
    start(train_in_processes, 2, corpus, tmp_path / "two", run)
    one, two = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("one", "two"))
    assert one["pair_scale.bias"] != -10
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-7, msg=name)
