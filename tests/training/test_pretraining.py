"""Pretraining in the drawn world: its own losses against plain arithmetic, and a run that can be repeated."""

from pathlib import Path

import numpy as np
import pytest
import torch

from regroup.backbones import load_checkpoint
from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.sources.make import make_source
from regroup.sources.settings import WorldParams
from regroup.training.pretraining import pretrain, save_half
from regroup.training.pretraining_losses import class_scores, image_loss, patch_loss
from regroup.training.pretraining_texts import draw_candidates, draw_labels, known_texts
from regroup.training.settings import MINI_MODEL, PretrainParams, PretrainPhase
from regroup.training.web import Concept, WebCorpus

TINY = GroupViTConfig(
    image=ImageConfig(
        image_size=32,
        patch_size=8,
        width=16,
        heads=2,
        stages=(StageConfig(1, 4), StageConfig(1, 3), StageConfig(1)),
    ),
    text=TextConfig(vocabulary=640, context=77, width=16, depth=1, heads=2),
    projector_hidden=16,
    joint_width=8,
)
PARAMS = PretrainParams(
    phases=(
        PretrainPhase(steps=3, text_steps=3, learning_rate=1e-3),
        PretrainPhase(steps=4, until=2, learning_rate=1e-3),
    ),
    batch=8,
    large_every=4,
    large_size=48,
    large_batch=4,
    warmup_steps=1,
    model=TINY,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> WebCorpus:
    folder = tmp_path_factory.mktemp("raw") / "web"
    make_source("web", "mini", folder, world=WorldParams(web=16))
    return WebCorpus(folder)


def test_the_same_params_give_the_same_checkpoint_bytes(corpus: WebCorpus, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_half(pretrain(corpus, PARAMS), tmp_path / name)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (
        tmp_path / "two/model.safetensors"
    ).read_bytes()
    other = pretrain(corpus, PARAMS.model_copy(update={"seed": 6}))
    assert not torch.equal(other.image.positions, load_checkpoint(tmp_path / "one").image.positions)


def test_stored_in_half_precision_without_loss(corpus: WebCorpus, tmp_path: Path) -> None:
    model = pretrain(corpus, PARAMS)
    save_half(model, tmp_path / "half")
    loaded = load_checkpoint(tmp_path / "half")
    for (name, one), other in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
        assert one.dtype == other.dtype
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * 4 * sum(
        p.numel() for p in model.parameters()
    ) + 2e5


def test_the_shipped_size_knows_every_word_it_may_meet() -> None:
    model = GroupViT(MINI_MODEL)
    ids = np.unique(tokenize(known_texts()))
    model.set_tokens(ids.tolist())
    table = model.text.token_index
    asked = np.unique(tokenize(["Two dogs next to a stop sign", "a photo of a television receiver.", "sea"]))
    assert (table[torch.from_numpy(asked[asked > 0])] > 0).all()


def test_patch_loss_is_the_weighted_cross_entropy() -> None:
    torch.manual_seed(0)
    predicted = torch.rand(2, 16, 5).softmax(-1)
    wanted = torch.zeros(2, 16, 5)
    wanted[0, :, 1] = 1.0
    wanted[1, :8, 2] = 0.75
    class_weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0])
    found = patch_loss(predicted, wanted, class_weights, background_weight=0.25)
    total = weights = 0.0
    for image in range(2):
        for patch in range(16):
            seen = wanted[image, patch].numpy()
            target = seen + (1 - seen.sum()) / 5
            weight = (seen * class_weights.numpy()).sum() + 0.25 * (1 - seen.sum())
            total += weight * -(target * np.log(predicted[image, patch].numpy())).sum()
            weights += weight
    assert float(found) == pytest.approx(total / weights, rel=1e-5)


def test_class_scores_in_training_are_those_of_inference_and_leave_the_batch_norm() -> None:
    model = GroupViT(TINY).train()
    tokens, classes = torch.randn(2, 3, 16), torch.randn(5, 8)
    before = model.image_projector.norm.running_mean.clone()
    scores = class_scores(model, tokens, classes)
    assert torch.equal(before, model.image_projector.norm.running_mean)
    assert model.image_projector.norm.training
    projected = model.eval().image_projector(tokens)
    cosine = torch.nn.functional.cosine_similarity(projected[:, :, None], classes, dim=-1)
    torch.testing.assert_close(scores, (cosine / 0.07).softmax(-1))


def test_image_loss_counts_only_images_that_show_a_candidate() -> None:
    feature, classes = torch.randn(2, 8), torch.randn(3, 8)
    wanted = torch.zeros(2, 4, 3)
    wanted[0, 0, 2] = 1.0
    logits = torch.nn.functional.cosine_similarity(feature[0], classes) / 0.07
    expected = -logits.log_softmax(0)[2]
    assert float(image_loss(feature, classes, torch.tensor(1 / 0.07).log(), wanted)) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_coverage_and_pixels_show_the_same_crop(corpus: WebCorpus) -> None:
    whole = corpus.batch([3], 64, 8, (1.0, 1.0), np.random.default_rng(0))
    assert whole.coverage.shape == (1, 64, len(corpus.concepts))
    share = (
        np.bincount(np.asarray(corpus.maps[3]).ravel(), minlength=256)[: len(corpus.concepts)]
        / corpus.maps[3].size[0]
    )
    share = share / corpus.maps[3].size[1]
    # a crop of all the area with another aspect loses little
    assert np.abs(whole.coverage.mean((0, 1)).numpy() - share).max() < 0.25
    assert (whole.coverage.sum(-1) <= 1 + 1e-6).all()


def test_candidates_and_labels() -> None:
    concepts = tuple(Concept((f"thing{i}", f"other{i}"), stuff=i >= 8) for i in range(12))
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = draw_candidates(concepts, rng)
        assert len(set(drawn.ids)) == len(drawn.ids) == len(drawn.texts) >= 2
        assert all(
            any(n in text for n in concepts[i].names) for i, text in zip(drawn.ids, drawn.texts, strict=True)
        )
    texts, ids = draw_labels([("dog", "cat", "dog"), (), ("cat",)], 3, rng)
    assert len(texts) == 9
    assert (ids >= 0).sum(1).tolist() == [2, 0, 1]
    assert ids[2, 0] in ids[0]


def test_a_broken_corpus_is_named(tmp_path: Path) -> None:
    make_source("web", "mini", tmp_path / "web", world=WorldParams(web=2))
    (tmp_path / "web/train2017/000000000002.jpg").write_bytes(b"no image")
    with pytest.raises(RegroupError, match=r"000000000002\.jpg: not a readable image"):
        WebCorpus(tmp_path / "web")
