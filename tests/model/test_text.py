from __future__ import annotations

import pytest
import torch

from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.model.text import cut_tokens

from .conftest import SMALL, make_tokens


def test_a_text_has_the_same_feature_whatever_surrounds_it(small: GroupViT) -> None:
    """Cut to the longest, sorted by length, repeated: against each text alone at the full 77 columns."""
    texts = [[300 + i % 40 for i in range(length)] for length in (3, 75, 0, 3, 12, 1, 40, 12)]
    texts[3] = texts[0]
    tokens = make_tokens(texts)
    together = small.encode_text(tokens)
    alone = torch.cat([small.text_projector(small.text(row[None])) for row in tokens])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together[0], together[3])


def test_what_follows_the_end_of_text_does_not_matter(small: GroupViT) -> None:
    tokens = make_tokens([[300, 301], [302]])
    other = tokens.clone()
    other[0, 4:] = 339
    torch.testing.assert_close(small.encode_text(other), small.encode_text(tokens), atol=1e-6, rtol=0)


def test_each_token_and_its_place_matter(small: GroupViT) -> None:
    features = small.encode_text(make_tokens([[300, 301], [301, 300], [300, 302]])).detach()
    assert float((features[0] - features[1]).abs().max()) > 1e-3
    assert float((features[0] - features[2]).abs().max()) > 1e-3


def test_gradients_reach_the_tower_through_repeated_texts(small: GroupViT) -> None:
    tokens = make_tokens([[300, 301], [302], [300, 301]])
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    (small.encode_text(tokens) * weight).sum().backward()
    ours = small.text.blocks[0].mlp.up.weight.grad
    assert ours is not None
    small.zero_grad()
    alone = torch.cat([small.text_projector(small.text(row[None])) for row in tokens])
    (alone * weight).sum().backward()
    torch.testing.assert_close(ours, small.text.blocks[0].mlp.up.weight.grad, atol=1e-5, rtol=1e-4)


def test_cut_tokens_keeps_up_to_the_longest() -> None:
    tokens = make_tokens([[5], [5, 6, 7]])
    assert torch.equal(cut_tokens(tokens), tokens[:, :5])


def test_empty_caption_and_empty_batch(small: GroupViT) -> None:
    assert torch.isfinite(small.encode_text(make_tokens([[]]))).all()
    assert small.encode_text(torch.zeros(0, 77, dtype=torch.int64)).shape == (0, 12)


def test_longer_than_the_context_is_refused(small: GroupViT) -> None:
    with pytest.raises(RegroupError, match=r"78 columns.*cut the text to 77"):
        small.encode_text(make_tokens([[300] * 76], columns=78))


def test_full_context_is_read(small: GroupViT) -> None:
    assert torch.isfinite(small.encode_text(make_tokens([[300] * 75]))).all()


@pytest.mark.parametrize(
    ("row", "wrong"),
    [([49406, 300, 0], "row 1"), ([49406, -3, 49407], "row 1"), ([49406, 49408, 49407], "row 1")],
)
def test_rows_that_are_no_text_are_refused(small: GroupViT, row: list[int], wrong: str) -> None:
    tokens = torch.tensor([[49406, 49407, 0], row])
    with pytest.raises(RegroupError, match=wrong):
        small.encode_text(tokens)


def test_wrong_type_is_refused(small: GroupViT) -> None:
    with pytest.raises(RegroupError, match="int64"):
        small.encode_text(torch.zeros(1, 77))


def test_compact_vocabulary_reads_clip_ids(small: GroupViT) -> None:
    """Rows follow the ascending ids from row 1; every other id shares row 0."""
    index = small.text.token_index
    assert index[300:340].tolist() == list(range(1, 41))
    assert index[[49406, 49407]].tolist() == [41, 42]
    assert int((index != 0).sum()) == 42
    unknown = small.encode_text(make_tokens([[7], [40000], [300]]))
    # a row's last digits depend on its place in the batch, on some processors
    torch.testing.assert_close(unknown[0], unknown[1], rtol=0, atol=1e-6)
    assert not torch.equal(unknown[0], unknown[2])


def test_too_many_tokens_for_a_compact_vocabulary(small: GroupViT) -> None:
    with pytest.raises(RegroupError, match="at least 103"):
        small.set_tokens(range(100))
    with pytest.raises(RegroupError, match="0 to 49407"):
        small.set_tokens([50000])


def test_full_vocabulary_takes_no_table() -> None:
    from dataclasses import replace

    model = GroupViT(replace(SMALL, text=replace(SMALL.text, vocabulary=49408)), draw=False)
    with pytest.raises(RegroupError, match="full vocabulary"):
        model.set_tokens([1])
