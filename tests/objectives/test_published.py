"""Every objective's form `published` against what the study's published code gave: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from regroup.objectives import Labels, Need, ObjectiveInputs, Term, total_loss
from regroup.objectives.noise_free import noise_free_loss

PUBLISHED = {"form": "published"}
TERMS: Mapping[str, dict[str, str]] = {
    "contrastive": PUBLISHED,
    "multi_label": PUBLISHED,
    "noise_free": {"scope": "local"},
    "group_entropy": PUBLISHED,
    "label_entropy": PUBLISHED,
    "segment_entropy": PUBLISHED,
    "dino_distillation": PUBLISHED,
}
EXACT = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(scope="module")
def numbers() -> Mapping[str, Tensor]:
    with np.load(Path(__file__).parent / "published" / "losses.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def leaves(numbers: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    return [numbers[f"in_{name}"].clone().requires_grad_() for name in names]


def computed(
    numbers: Mapping[str, Tensor], name: str, options: Mapping[str, str] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """The objective as a run has it, and the inputs that it is differentiated by."""
    image, caption, segments, soft1, soft2 = leaves(numbers, "image", "caption", "segments", "soft1", "soft2")
    attention = soft2 @ soft1
    ids, features = numbers["in_label_ids"], numbers["in_labels"].clone()
    if name in ("label_entropy", "segment_entropy"):
        features[ids < 0] = numbers["in_pad_text"]
    wanted = {
        "contrastive": [image, caption],
        "multi_label": [image],
        "noise_free": [image],
        "group_entropy": [soft1, soft2],
        "label_entropy": [segments, soft1, soft2],
        "segment_entropy": [segments],
        "dino_distillation": [attention],
    }[name]
    inputs = ObjectiveInputs(
        image=image,
        caption=caption,
        logit_scale=numbers["in_logit_scale"],
        multi_label_logit_scale=numbers["in_multi_label_logit_scale"],
        padding="denominator" if name == "noise_free" else "null",
        given={
            Need.LABELS: Labels(features, ids),
            Need.SEGMENTS: segments,
            Need.ATTENTION: attention,
            Need.DINO: numbers["in_dino"],
        },
    )
    told = TERMS[name] if options is None else dict(options)
    return total_loss([Term(name=name, options=told)], inputs).loss, wanted


def compare(numbers: Mapping[str, Tensor], name: str, value: Tensor, wanted: list[Tensor]) -> None:
    expected = [numbers[f"grad{place}_{name}"] for place in range(len(wanted))]
    assert f"grad{len(wanted)}_{name}" not in numbers
    for found, gradient in zip(torch.autograd.grad(value, wanted), expected, strict=True):
        assert float(gradient.abs().max()) > 1e-8
        # gradients of means over many patches are small, so to 1e-9 of the largest as well
        atol = 1e-9 * min(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(found.view_as(gradient), gradient, rtol=0, atol=atol)
    torch.testing.assert_close(value.detach(), numbers[f"out_{name}"], **EXACT)


@pytest.mark.parametrize("name", [name for name in TERMS if name != "noise_free"])
def test_value_and_gradients(numbers: Mapping[str, Tensor], name: str) -> None:
    compare(numbers, name, *computed(numbers, name))


@pytest.mark.parametrize(
    ("name", "least"), [("group_entropy", 100), ("label_entropy", 50), ("dino_distillation", 1000)]
)
def test_the_published_form_pulls_far_less(numbers: Mapping[str, Tensor], name: str, least: float) -> None:
    """Than eq. 38 to 43 and 54 at the same weight, on attention; `pytest -s` prints by how much."""
    values, norms = [], []
    for form in ("thesis", "published"):
        value, wanted = computed(numbers, name, {"form": form})
        gradients = torch.autograd.grad(value, wanted[-2:])
        values.append(float(value.detach()))
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
    print(f"\n{name}: thesis {values[0]:.4g}, gradient {norms[0]:.3g}; ", end="")
    print(f"published {values[1]:.4g}, gradient {norms[1]:.3g}: {norms[0] / norms[1]:.0f} times less")
    assert norms[0] > least * norms[1]


def test_every_loss_of_the_file_is_compared(numbers: Mapping[str, Tensor]) -> None:
    assert {key.removeprefix("out_") for key in numbers if key.startswith("out_")} == set(TERMS)


def test_noise_free_but_for_the_rounding_of_its_targets(numbers: Mapping[str, Tensor]) -> None:
    value, (image,) = computed(numbers, "noise_free")
    (gradient,) = torch.autograd.grad(value, image)
    torch.testing.assert_close(value.detach(), numbers["out_noise_free"], rtol=0, atol=1e-3)
    torch.testing.assert_close(gradient, numbers["grad0_noise_free"], rtol=0, atol=1e-4)
    for other in ("caption", "null", "mask"):  # which of these it was is seen from afar
        arguments = (image.detach(), numbers["in_labels"], numbers["in_label_ids"])
        far = noise_free_loss(*arguments, numbers["in_multi_label_logit_scale"], padding=other)
        assert abs(float(far - numbers["out_noise_free"])) > 0.5


@pytest.mark.parametrize("rounded", [False, True])
def test_noise_free_by_hand(numbers: Mapping[str, Tensor], rounded: bool) -> None:
    """With exact targets it is ours, with targets of four decimals the study's: nothing else differs."""

    def kept(target: Tensor) -> Tensor:
        return target.float().round(decimals=4).double() if rounded else target

    (image,) = leaves(numbers, "image")
    value = noise_free_by_hand(image, numbers["in_labels"], numbers["in_label_ids"], kept, numbers)
    if rounded:
        compare(numbers, "noise_free", value, [image])
        return
    ours, (leaf,) = computed(numbers, "noise_free")
    torch.testing.assert_close(value.detach(), ours.detach(), **EXACT)
    found, expected = torch.autograd.grad(value, image)[0], torch.autograd.grad(ours, leaf)[0]
    torch.testing.assert_close(found, expected, **EXACT)


def noise_free_by_hand(
    image: Tensor,
    labels: Tensor,
    ids: Tensor,
    kept: Callable[[Tensor], Tensor],
    numbers: Mapping[str, Tensor],
) -> Tensor:
    """Dense targets over all pairs; an empty place has none, and is a label of zeros to compare with."""
    count, places = ids.shape
    rows = ids.tolist()
    carries = torch.zeros(count, count * places, dtype=torch.float64)
    for i in range(count):
        for place, label in enumerate(label for row in rows for label in row):
            carries[i, place] = float(label >= 0 and label in rows[i])
    scale = numbers["in_multi_label_logit_scale"].exp()
    length = labels.norm(dim=-1, keepdim=True)
    texts = torch.where(length > 0, labels / length.clamp_min(1e-30), 0).flatten(0, 1)
    logits = scale * (image / image.norm(dim=-1, keepdim=True)) @ texts.T
    to_text = kept(carries / carries.sum(1, keepdim=True).clamp_min(1))
    to_image = kept(carries / carries.sum(0, keepdim=True).clamp_min(1))
    first = -(to_text * logits.log_softmax(1)).sum(1).mean()
    second = -(to_image * logits.log_softmax(0)).sum(0).mean()
    return (first + second) / 2
