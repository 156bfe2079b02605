"""Two gloo processes against one process on the whole batch."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from regroup.model.projector import Projector
from regroup.objectives import Labels, Need, ObjectiveInputs, Term, total_loss
from regroup.objectives.noise_free import noise_free_loss

TERMS = {
    "contrastive": [Term(name="contrastive", weight=1.0)],
    "multi_label": [Term(name="multi_label", weight=1.0)],
    "multi_label_thesis": [Term(name="multi_label", weight=1.0, options={"form": "thesis"})],
    "noise_free": [Term(name="noise_free", weight=1.0, options={"scope": "global"})],
    "group_entropy": [Term(name="group_entropy", weight=1.0)],
    "segment_entropy": [Term(name="segment_entropy", weight=1.0)],
    "label_entropy": [Term(name="label_entropy", weight=1.0)],
    "dino_distillation": [Term(name="dino_distillation", weight=1.0)],
    **{
        f"{name}_published": [Term(name=name, weight=1.0, options={"form": "published"})]
        for name in ("group_entropy", "segment_entropy", "label_entropy", "dino_distillation")
    },
}
MIX = torch.linspace(-1, 1, 35, dtype=torch.float64).view(5, 7)
PADDINGS = ("caption", "null", "mask", "denominator")
Results = dict[str, tuple[float, list[torch.Tensor]]]


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "image": (6, 5),
        "caption": (6, 5),
        "labels": (6, 3, 5),
        "segments": (6, 4, 5),
        "dino": (6, 7, 3),
    }
    tensors = {k: torch.randn(*s, generator=generator, dtype=torch.float64) for k, s in shapes.items()}
    # shared labels across the two halves, and very different numbers of them
    tensors["ids"] = torch.tensor([[0, 1, 2], [0, 3, 1], [4, 5, 0], [1, -1, -1], [-1, -1, -1], [0, 4, -1]])
    return tensors


def compute(rows: slice) -> Results:
    """Loss and gradients, with features that go through a projector with batch norm."""
    results: Results = {}
    for padding in PADDINGS:
        for name, terms in TERMS.items():
            torch.manual_seed(0)
            projector = Projector(5, 8, 5).double()
            scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
            x = {key: tensor[rows] for key, tensor in batch().items()}
            inputs = ObjectiveInputs(
                image=projector(x["image"]),
                caption=projector(x["caption"]),
                padding=padding,
                logit_scale=scale,
                multi_label_logit_scale=scale,
                given={
                    Need.LABELS: Labels(projector(x["labels"]), x["ids"]),
                    Need.SEGMENTS: projector(x["segments"]),
                    Need.ATTENTION: (projector(x["segments"]) @ MIX).softmax(1),
                    Need.DINO: x["dino"],
                },
            )
            loss = total_loss(terms, inputs).loss
            loss.backward()
            gradients = [
                torch.zeros(()) if p.grad is None else p.grad for p in [*projector.parameters(), scale]
            ]
            statistics = [projector.norm.running_mean, projector.norm.running_var]
            results[f"{name} {padding}"] = (float(loss.detach()), gradients + statistics)
    return results


def local(rows: slice) -> tuple[float, list[torch.Tensor]]:
    """The noise-free loss within one rank's rows, as the study computed it; through one shared matrix."""
    x = {key: tensor[rows] for key, tensor in batch().items()}
    weight = torch.eye(5, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(1.0, dtype=torch.float64)
    loss = noise_free_loss(x["image"] @ weight, x["labels"] @ weight, x["ids"], scale, scope="local")
    return float(loss.detach()), [*torch.autograd.grad(loss, weight)]


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    rows = slice(3 * rank, 3 * rank + 3)
    torch.save({**compute(rows), "local": local(rows)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> Results:
    return compute(slice(None))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", TERMS)
def test_two_ranks_equal_one_process(ranks: list[Results], alone: Results, name: str, padding: str) -> None:
    """Same loss on both ranks; gradients averaged over ranks; synchronised batch norm and its statistics."""
    loss, tensors = alone[f"{name} {padding}"]
    first, second = (rank[f"{name} {padding}"] for rank in ranks)
    assert first[0] == pytest.approx(loss, rel=1e-12)
    assert second[0] == pytest.approx(loss, rel=1e-12)
    for expected, a, b in zip(tensors, first[1], second[1], strict=True):
        torch.testing.assert_close((a + b) / 2, expected, rtol=1e-9, atol=1e-12)


def test_local_scope_compares_each_ranks_own_images(ranks: list[Results]) -> None:
    """The mean of what each half gives by itself, on both ranks; likewise the gradients."""
    halves = [local(slice(0, 3)), local(slice(3, 6))]
    assert halves[0][0] != pytest.approx(halves[1][0], rel=1e-3)
    for rank in ranks:
        assert rank["local"][0] == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-12)
    found = (ranks[0]["local"][1][0] + ranks[1]["local"][1][0]) / 2
    torch.testing.assert_close(found, (halves[0][1][0] + halves[1][1][0]) / 2, rtol=1e-9, atol=1e-12)


def test_gradients_are_not_trivially_zero(alone: Results) -> None:
    for name, (_, tensors) in alone.items():
        assert any(float(tensor.abs().max()) > 1e-6 for tensor in tensors[:-2]), name
