"""What objectives may ask a training step for: each value against what the model and the data say by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from regroup.adaptation.parts import set_trainable
from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams
from regroup.captions.table import LABELS, LabelTable, read_vocabulary
from regroup.objectives import OBJECTIVES, Need, ObjectiveInputs
from regroup.sources.manifest import raw_root
from regroup.training.data import CaptionBatch, CaptionData
from regroup.training.providers import PROVIDERS
from regroup.training.settings import FinetuneParams
from regroup.training.step import TrainingStep
from regroup.variants import LabelSettings, Variant

from .tiny import SETTINGS, VARIANT, model, opened

EVERYTHING = frozenset(Need) - {Need.DINO}


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[[frozenset[Need], Callable[..., Tensor]], Variant]:
    """Put an objective in the room for the time of the test; returns a variant that has it alone."""

    def put(needs: frozenset[Need], loss: Callable[..., Tensor]) -> Variant:
        module = ModuleType("probe")
        vars(module).update(NEEDS=needs, loss=loss)
        load = type(OBJECTIVES).load

        def loaded(room: Any, name: str) -> ModuleType:
            return module if name == "probe" else load(room, name)

        monkeypatch.setattr(type(OBJECTIVES), "load", loaded)
        return VARIANT.model_copy(
            update={"objectives": (VARIANT.objectives[0].model_copy(update={"name": "probe"}),)}
        )

    return put


def first_batch(corpus: Path, variant: Variant, **settings: Any) -> tuple[CaptionBatch, CaptionData, int]:
    data, plan = opened(corpus, variant, SETTINGS.model_copy(update=settings))
    return next(data.batches(0)), data, plan.image_size


@pytest.mark.parametrize("fallback", ["none_left", "too_few"])
def test_a_run_draws_as_its_fallback_says(corpus: Path, tmp_path: Path, fallback: str) -> None:
    (tmp_path / "shards").symlink_to(corpus / "shards")
    extract_labels(raw_root(corpus / "raw"), tmp_path / "captions", NounsParams(vocabularies={"some": 10}))
    some = set(read_vocabulary(tmp_path / "captions", "some"))
    labels = LabelSettings.model_validate(
        {"source": "nouns", "count": 3, "vocabulary": "some", "fallback": fallback}
    )
    batch, _, _ = first_batch(tmp_path, VARIANT.model_copy(update={"labels": labels}))
    table = LabelTable.open(tmp_path / "captions" / LABELS)
    mixed = 0
    for row, ids in zip(batch.caption_texts.tolist(), batch.label_ids, strict=True):
        drawn, nouns = set(table.label_names(ids[ids >= 0])), set(table.label_names(table.nouns.row(row)))
        assert drawn <= nouns
        mixed += bool(drawn & some) and bool(drawn - some)
        if fallback == "too_few":
            assert len(drawn) == min(3, len(nouns))
    assert bool(mixed) == (fallback == "too_few")


def test_every_need_has_a_provider() -> None:
    assert set(PROVIDERS) == set(Need)


def test_what_is_given_is_what_the_model_and_the_data_say(corpus: Path, probe: Any) -> None:
    seen: list[ObjectiveInputs] = []

    def loss(inputs: ObjectiveInputs, options: object) -> Tensor:
        seen.append(inputs)
        return inputs.image.square().sum()

    variant = probe(EVERYTHING, loss)
    batch, data, size = first_batch(corpus, variant)
    trained = model(drop_path=0.0)
    set_trainable(trained, "both_gbs")
    trained.train()
    step = TrainingStep(trained, data, variant, SETTINGS, image_size=size)
    step(batch, torch.Generator().manual_seed(3))
    (inputs,) = seen
    table = LabelTable.open(corpus / "captions" / LABELS)

    assert inputs.labels.ids.tolist() == batch.label_ids.tolist()
    assert inputs.attention.sum(1).allclose(torch.ones(()))
    assert inputs.segments.shape == (16, 4, 32)
    plain = model(drop_path=0.0)
    assert torch.equal(inputs.patches, plain.image.run_first_stage(batch.pixels).tokens)

    # all captions of each image: the batch's own among them, none of another image's
    for row, (image, own) in enumerate(zip(batch.image_ids, batch.caption_texts, strict=True)):
        numbers = inputs.captions.numbers[row][inputs.captions.present[row]].tolist()
        assert numbers == np.flatnonzero(table.image_ids == image).tolist()
        assert own in numbers

    # token states: that at end-of-text is what the tower says of the whole text
    tokens = inputs.tokens
    ends = tokens.present.sum(1) - 1
    feature = plain.encode_text_tower(data.tokens(batch.caption_texts))
    found = tokens.states[torch.arange(16), ends]
    torch.testing.assert_close(found, feature, rtol=1e-5, atol=1e-6)
    assert (tokens.ids.gather(1, ends[:, None]) == tokens.ids.amax()).all()

    # the teacher is the model at the start, in evaluation
    expected = plain.eval().encode_image(batch.pixels, return_attention=True)
    assert torch.equal(inputs.teacher.image, expected.feature)
    assert torch.equal(inputs.teacher.segments, expected.segment_features)
    assert not inputs.teacher.image.requires_grad


def test_the_teacher_stays_while_the_model_learns(corpus: Path, probe: Any) -> None:
    teachers: list[Tensor] = []

    def loss(inputs: ObjectiveInputs, options: object) -> Tensor:
        teachers.append(inputs.teacher.image)
        return (inputs.image - inputs.teacher.image).square().mean()

    variant = probe(frozenset({Need.TEACHER}), loss)
    batch, data, size = first_batch(corpus, variant)
    trained = model(drop_path=0.0)
    set_trainable(trained, "both_gbs")
    step = TrainingStep(trained.train(), data, variant, SETTINGS, image_size=size)
    optimiser = torch.optim.SGD(step.parameters, lr=1.0)
    for _ in range(2):
        step(batch, torch.Generator().manual_seed(3))
        optimiser.step()
    assert torch.equal(*teachers)
    assert any(float(parameter.grad.abs().max()) > 0 for parameter in step.parameters)


def test_a_second_view_is_another_draw_of_the_same_image(corpus: Path, probe: Any) -> None:
    variant = probe(frozenset({Need.VIEW}), lambda inputs, options: (inputs.image * inputs.view).sum())
    batch, _, _ = first_batch(corpus, variant)
    assert batch.second_pixels is not None
    assert batch.second_pixels.shape == batch.pixels.shape
    assert not torch.equal(batch.second_pixels, batch.pixels)
    # decided by the sample alone, and the first view is what it is without a second
    plain, _, _ = first_batch(corpus, VARIANT)
    assert plain.second_pixels is None
    assert torch.equal(plain.pixels, batch.pixels)
    again, _, _ = first_batch(corpus, variant)
    assert torch.equal(again.second_pixels, batch.second_pixels)


@pytest.mark.parametrize("need", [Need.PATCHES, Need.VIEW, Need.CAPTIONS, Need.TOKENS])
def test_gradients_come_back_the_same_in_chunks(corpus: Path, probe: Any, need: Need) -> None:
    """Also through what an objective reads beside the first view's segments."""

    def loss(inputs: ObjectiveInputs, options: object) -> Tensor:
        value: Tensor = {
            Need.PATCHES: lambda: inputs.patches,
            Need.VIEW: lambda: inputs.view,
            Need.CAPTIONS: lambda: inputs.captions.features,
            Need.TOKENS: lambda: inputs.tokens.states,
        }[need]()
        return inputs.image.square().mean() + value.square().mean()

    variant = probe(frozenset({need}), loss)
    found = []
    for chunks in (1, 3):
        settings = SETTINGS.model_copy(update={"chunks": chunks})
        batch, data, size = first_batch(corpus, variant)
        trained = model(drop_path=0.0)
        trained.requires_grad_(True)
        step = TrainingStep(trained.train(), data, variant, settings, image_size=size)
        result = step(batch, torch.Generator().manual_seed(3))
        found.append((float(result.loss.detach()), [p.grad for p in step.parameters]))
    (whole, one), (parts, many) = found
    assert parts == pytest.approx(whole, rel=1e-6)
    for first, second in zip(one, many, strict=True):
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_nothing_is_computed_that_no_objective_reads(
    corpus: Path, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Need] = []
    for need, provider in PROVIDERS.items():

        def compute(*arguments: Any, need: Need = need, provider: Any = provider) -> Any:
            asked.append(need)
            return provider.compute(*arguments)

        monkeypatch.setitem(PROVIDERS, need, replace(provider, compute=compute))
    variant = probe(frozenset({Need.SEGMENTS}), lambda inputs, options: inputs.segments.square().mean())
    batch, data, size = first_batch(corpus, variant)
    step = TrainingStep(model().train(), data, variant, FinetuneParams(), image_size=size)
    step(batch, torch.Generator().manual_seed(3))
    assert asked == [Need.SEGMENTS]
