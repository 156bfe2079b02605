"""A whole model on two gloo processes against one process on the whole batch.

What a data-parallel trainer relies on: every rank computes its loss from its own images and texts, and the
gradients averaged over ranks are those of the whole batch, although losses compare all ranks' features, the
projectors' batch norms see all ranks' rows, and the ranks bring different numbers of labels.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from regroup.adaptation.parts import set_trainable
from regroup.model import GroupViT
from regroup.model.encoding import Noise
from regroup.objectives import Labels, Need, ObjectiveInputs, Term, total_loss

from .conftest import SMALL, make_tokens, scramble

TERMS = [
    Term(name="contrastive", weight=1.0),
    Term(name="multi_label", weight=1.0),
    Term(name="noise_free", weight=0.5, options={"scope": "global"}),
    Term(name="group_entropy", weight=0.3),
    Term(name="label_entropy", weight=0.2),
    Term(name="segment_entropy", weight=0.1),
]
# of six images, three a rank: the first rank brings seven, the second two, some of them the same, or none
FIRST = [[300, 301, 302], [300, 303, 301], [304, -1, -1]]
LABELS = {
    "few": [*FIRST, [301, -1, -1], [-1, -1, -1], [300, -1, -1]],
    "none": [*FIRST, [-1, -1, -1], [-1, -1, -1], [-1, -1, -1]],
}
CASES = [
    ("both_gbs", "null", "few"),
    ("both_gbs", "mask", "few"),
    ("all", "null", "few"),
    ("both_gbs+projectors", "mask", "few"),
    ("all", "mask", "none"),
    ("both_gbs", "null", "none"),
]
Tensors = dict[str, torch.Tensor]


def step(rows: slice, part: str, padding: str, second: str) -> Tensors:
    """Loss, gradients and running statistics of one training step on these images."""
    model = GroupViT(SMALL, generator=torch.Generator().manual_seed(0))
    model.set_tokens(range(300, 340))
    scramble(model)
    model.double().train()
    set_trainable(model, part)
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    noise = model.draw_noise(pixels, torch.Generator().manual_seed(2))
    assert noise.keep is not None
    noise = Noise(noise.keep[:, rows].double(), tuple(gumbel[rows].double() for gumbel in noise.gumbel))
    image = model.encode_image(pixels[rows], noise=noise, return_attention=True)
    ids = torch.tensor(LABELS[second])[rows]
    real = ids >= 0
    captions = [[310 + number, 320] for number in range(6)][rows]
    projected = model.encode_text(
        make_tokens(captions + [[label] for label in ids[real].tolist()], columns=8)
    )
    labels = projected.new_zeros(*ids.shape, projected.shape[-1])
    labels[real] = projected[len(ids) :]
    inputs = ObjectiveInputs(
        image=image.feature,
        caption=projected[: len(ids)],
        padding=padding,
        logit_scale=model.logit_scale,
        multi_label_logit_scale=model.multi_label_logit_scale,
        given={
            Need.LABELS: Labels(labels, ids),
            Need.SEGMENTS: image.segment_features,
            Need.ATTENTION: image.attention,
        },
    )
    loss = total_loss(TERMS, inputs).loss
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    statistics = {name: b for name, b in model.named_buffers() if "running" in name}
    return {"loss": loss.detach(), **gradients, **statistics}


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    results = [step(slice(3 * rank, 3 * rank + 3), *case) for case in CASES]
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[Tensors]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", range(len(CASES)), ids=[" ".join(case) for case in CASES])
def test_gradients_averaged_over_ranks(ranks: list[list[Tensors]], case: int) -> None:
    alone = step(slice(None), *CASES[case])
    first, second = (rank[case] for rank in ranks)
    assert set(first) == set(second) == set(alone)
    assert sum(".grouping." in name for name in alone) > 40
    worst = 0.0
    for name, expected in alone.items():
        found = (first[name] + second[name]) / 2
        size = max(1.0, float(expected.abs().max()))
        worst = max(worst, float((found - expected).abs().max()) / size)
        assert torch.equal(first[name], second[name]) or ("running" not in name and name != "loss"), name
    print(f"largest difference of loss, {len(alone)} gradients and statistics: {worst:.1e}")
    assert worst < 1e-6
