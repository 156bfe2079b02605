"""What a run does to the projectors' batch norm: which rows it sees, which statistics the checkpoint has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.adaptation.parts import set_trainable
from regroup.captions.table import LABELS, LabelTable
from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD
from regroup.model.projector import SyncedBatchNorm
from regroup.objectives import total_loss
from regroup.pictures import read_picture
from regroup.settings import parse
from regroup.training.finetune import finetune
from regroup.training.snapshots import FOLDER, apply_snapshot, list_snapshots
from regroup.training.step import TrainingStep
from regroup.training.views import PlainViews
from regroup.variants import Variant

from .tiny import SETTINGS, VARIANT, finetune_until, model, opened

NORMS = ("image_projector.norm", "text_projector.norm")
FINAL = ("batch", "held", "original", "recomputed")
SNAPSHOTS = SETTINGS.model_copy(update={"snapshots": 2, "save_every": 2})


def variant(**batch_norm: Any) -> Variant:
    """The tiny run, both grouping blocks trained, with places for more labels than captions have."""
    return Variant.model_validate(VARIANT.model_dump() | {"labels": {"count": 5}, "batch_norm": batch_norm})


def running(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The running means and variances of a model, or of a snapshot."""
    return {
        f"{norm}.{key}": state[f"{norm}.{key}"] for norm in NORMS for key in ("running_mean", "running_var")
    }


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@contextmanager
def seen_by(norm: SyncedBatchNorm) -> Iterator[list[Tensor]]:
    """Collects what a batch norm reads in training."""
    rows: list[Tensor] = []
    handle = norm.register_forward_pre_hook(
        lambda module, inputs: rows.append(inputs[0].detach().double()) if module.training else None
    )
    yield rows
    handle.remove()


def trained(corpus: Path, state: Path, **batch_norm: Any) -> GroupViT:
    run = model()
    finetune_until(0, run, corpus, state, variant(**batch_norm), SNAPSHOTS)
    return run


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[GroupViT, Path]]:
    """A run with each kind of statistics, and the folder of its snapshots."""
    folder = tmp_path_factory.mktemp("statistics")
    return {
        kind: (trained(corpus, folder / kind, statistics=kind, segments=True, padding=True), folder / kind)
        for kind in FINAL
    }


def weights(run: GroupViT) -> dict[str, Tensor]:
    return dict(run.named_parameters())


def test_original_and_recomputed_change_nothing_but_the_running_statistics(runs: Any) -> None:
    batch = weights(runs["batch"][0])
    assert equal(weights(runs["original"][0]), batch)
    assert equal(weights(runs["recomputed"][0]), batch)
    assert not equal(weights(runs["held"][0]), batch)


def test_held_and_original_end_with_the_pretrained_statistics(runs: Any) -> None:
    start = running(model().state_dict())
    assert equal(running(runs["held"][0].state_dict()), start)
    assert equal(running(runs["original"][0].state_dict()), start)
    for kind in ("batch", "recomputed"):
        end = running(runs[kind][0].state_dict())
        assert not any(torch.equal(end[name], start[name]) for name in start)


def test_batch_follows_every_batch_of_the_run(corpus: Path, tmp_path: Path) -> None:
    """By hand: a tenth of each batch's mean and unbiased variance, in the order in which they pass."""
    run = model()
    with seen_by(run.image_projector.norm) as images, seen_by(run.text_projector.norm) as texts:
        finetune_until(0, run, corpus, tmp_path, variant(segments=True, padding=True), SNAPSHOTS)
    assert [len(rows) for rows in images] == 12 * [16, 16 * 4]
    assert [len(rows) for rows in texts] == 12 * [16 * (1 + 5)]
    start, end = model().state_dict(), run.state_dict()
    for norm, batches in zip(NORMS, (images, texts), strict=True):
        for key, of in (("running_mean", lambda x: x.mean(0)), ("running_var", lambda x: x.var(0))):
            value = start[f"{norm}.{key}"].double()
            for rows in batches:
                value = 0.9 * value + 0.1 * of(rows)
            torch.testing.assert_close(end[f"{norm}.{key}"].double(), value, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def by_hand(run: GroupViT, corpus: Path, *, segments: bool, padding: bool) -> dict[str, Tensor]:
    """Statistics over the split: each file by itself, each text by itself."""
    data, plan = opened(corpus, variant())
    run = run.double().eval()
    files = sorted((corpus / "raw").rglob("train2017/*.jpg"))
    table = LabelTable.open(corpus / "captions" / LABELS)
    assert len(files) == len(np.unique(table.image_ids)) == 40
    pooled, tokens = [], []
    for file in files:
        pixels = PlainViews(plan.image_size)([read_picture(file)], keys=np.zeros(1, dtype=np.uint64))
        out = run.encode_image(pixels.double())
        tokens.append(out.segments[0])
        pooled.append(out.segments[0].mean(0))
    kinds = [torch.stack(pooled), torch.cat(tokens)] if segments else [torch.stack(pooled)]
    labels = data._sampler.sample(np.arange(len(table)), 0)
    numbers = np.concatenate([labels.caption_texts, labels.label_texts.flatten()])
    texts = [run.encode_text_tower(data.tokens(numbers[numbers >= 0]))]
    if padding:
        zeros = run.text.states(torch.zeros(1, 77, dtype=torch.int64))[:, 0]
        texts.append(zeros.expand(int((numbers < 0).sum()), -1))
    found = {}
    for norm, of in zip(NORMS, (kinds, [torch.cat(texts)]), strict=True):
        linear = run.get_submodule(norm.replace(".norm", ".hidden"))
        hidden = [rows @ linear.weight.T + linear.bias for rows in of]
        found[f"{norm}.running_mean"] = torch.stack([rows.mean(0) for rows in hidden]).mean(0)
        found[f"{norm}.running_var"] = torch.stack([rows.var(0) for rows in hidden]).mean(0)
    run.float()
    return found


@pytest.mark.parametrize(("segments", "padding"), [(True, True), (False, False)])
def test_recomputed_are_those_of_the_whole_split_under_the_final_weights(
    corpus: Path, tmp_path: Path, segments: bool, padding: bool
) -> None:
    run = trained(corpus, tmp_path, statistics="recomputed", segments=segments, padding=padding)
    found = running(run.state_dict())
    for name, value in by_hand(run, corpus, segments=segments, padding=padding).items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", FINAL)
def test_snapshots_have_the_statistics_that_the_run_would_end_with(
    runs: Any, corpus: Path, kind: str
) -> None:
    end, state = runs[kind]
    middle, last = list_snapshots(state)
    found = model()
    apply_snapshot(found, last)
    assert equal(dict(found.state_dict()), dict(end.state_dict()))
    apply_snapshot(found, middle)
    seen = running(found.state_dict())
    assert equal(seen, running(end.state_dict())) == (kind in ("held", "original"))
    if kind == "recomputed":
        for name, value in by_hand(found, corpus, segments=True, padding=True).items():
            torch.testing.assert_close(seen[name].double(), value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["original", "recomputed"])
def test_a_killed_run_ends_with_the_same_bytes(runs: Any, corpus: Path, tmp_path: Path, kind: str) -> None:
    chosen = variant(statistics=kind, segments=True, padding=True)
    finetune_until(8, model(), corpus, tmp_path, chosen, SNAPSHOTS)
    again = model()
    finetune_until(0, again, corpus, tmp_path, chosen, SNAPSHOTS)
    assert equal(dict(again.state_dict()), dict(runs[kind][0].state_dict()))
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_segments_that_nobody_reads_move_statistics_alone(corpus: Path, tmp_path: Path) -> None:
    with_segments = trained(corpus, tmp_path / "with", segments=True)
    without = trained(corpus, tmp_path / "without")
    assert equal(weights(with_segments), weights(without))
    one, two = running(with_segments.state_dict()), running(without.state_dict())
    assert {name for name in one if not torch.equal(one[name], two[name])} == {
        "image_projector.norm.running_mean",
        "image_projector.norm.running_var",
    }


@pytest.mark.parametrize("part", ["both_gbs", "all"])
def test_empty_places_have_the_feature_of_a_text_of_zeros(
    corpus: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And pass the projector in one batch with the captions and labels; with a trained text tower too."""
    seen: list[Tensor] = []
    plain = TrainingStep._loss

    def loss(step: TrainingStep, batch: Any, towers: Any, texts: Tensor) -> Any:
        seen.append(texts.detach())
        return plain(step, batch, towers, texts)

    monkeypatch.setattr(TrainingStep, "_loss", loss)
    given: list[Any] = []
    monkeypatch.setattr(
        "regroup.training.step.total_loss",
        lambda terms, inputs: (given.append(inputs), total_loss(terms, inputs))[1],
    )
    chosen = variant(padding=True)
    data, plan = opened(corpus, chosen)
    run = model()
    set_trainable(run, part)
    TrainingStep(run.train(), data, chosen, SETTINGS, image_size=plan.image_size)(
        batch := next(data.batches(0)), torch.Generator().manual_seed(3)
    )
    empty = batch.label_texts < 0
    assert empty.any()
    assert len(seen[0]) == 16 * (1 + 5)
    zeros = run.text.states(torch.zeros(1, 77, dtype=torch.int64))[0, 0]
    torch.testing.assert_close(seen[0][-int(empty.sum()) :], zeros.expand(int(empty.sum()), -1))
    labels = given[0].labels
    assert labels.present.tolist() == (~empty).tolist()
    at_empty = labels.features[~labels.present]
    assert torch.equal(at_empty, at_empty[:1].expand_as(at_empty))
    # what stands there is the projection of the zeros in the batch's own statistics
    hidden = F.linear(seen[0], run.text_projector.hidden.weight, run.text_projector.hidden.bias)
    normed = (hidden[-1] - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    expected = run.text_projector.out(
        F.relu(normed * run.text_projector.norm.weight + run.text_projector.norm.bias)
    )
    torch.testing.assert_close(at_empty[0], expected, rtol=1e-4, atol=1e-5)


def test_plain_views_are_the_middle_of_the_scaled_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    (view,) = PlainViews(32)([image], keys=np.zeros(1, dtype=np.uint64))
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    scaled = F.interpolate(planes, (round(90 * 32 / 61), 32), mode="bilinear")
    middle = scaled[0, :, (scaled.shape[2] - 32) // 2 :][:, :32] / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    torch.testing.assert_close(view * deviation + mean, middle, rtol=0, atol=1.1 / 255)


def test_what_cannot_be_is_refused(corpus: Path, tmp_path: Path) -> None:
    for labels in ({"padding": "caption"}, {"source": "none"}):
        entry = VARIANT.model_dump() | {"labels": labels, "batch_norm": {"padding": True}}
        entry["objectives"] = [{"name": "contrastive"}]
        with pytest.raises(RegroupError, match=r"`batch_norm.padding` is of empty label places"):
            parse(Variant, entry, "variants.yaml")
    adapt = [{"name": "parts", "options": {"train": "all"}}]
    everything = Variant.model_validate(variant(statistics="held").model_dump() | {"adapt": adapt})
    data, plan = opened(corpus, everything)
    arguments = {"state": tmp_path, "inputs_digest": "", "progress": False}
    with pytest.raises(RegroupError, match="`held` is about frozen projectors, and this run trains both"):
        finetune(model(), data, everything, SETTINGS, plan, **arguments)
