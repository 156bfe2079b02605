"""Dropout by rows: the same whatever the chunks, processes and what was drawn before."""

from __future__ import annotations

import pytest
import torch

from regroup.model.dropout import RowDropout, Rows, place_rows, row_dropouts


def dropped(x: torch.Tensor, rows: Rows, *, number: int = 0) -> torch.Tensor:
    layer = RowDropout(0.25, number)
    place_rows([layer], rows)
    out: torch.Tensor = layer(x)
    return out


def test_rows_are_dropped_alike_in_parts_and_as_a_whole() -> None:
    x = torch.ones(6, 5, 7)
    state = torch.get_rng_state()
    whole = dropped(x, Rows(3, 6))
    torch.rand(9)
    parts = [dropped(x[:2], Rows(3, 6, 0)), dropped(x[2:], Rows(3, 6, 2))]
    assert torch.equal(torch.cat(parts), whole)
    torch.set_rng_state(state)
    assert not torch.equal(dropped(x, Rows(4, 6)), whole)
    assert not torch.equal(dropped(x, Rows(3, 6), number=1), whole)
    assert not torch.equal(dropped(x, Rows(3, stream=1)), whole)
    assert not torch.equal(whole[0], whole[1])


def test_a_quarter_is_dropped_and_the_mean_stays() -> None:
    out = dropped(torch.ones(400, 50), Rows(1, 400))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.015)


def test_calls_of_one_step_differ_and_recur() -> None:
    layer = RowDropout(0.5, 0)
    runs = []
    for _ in range(2):
        place_rows(row_dropouts(torch.nn.Sequential(layer)), Rows(1))
        runs.append([layer(torch.ones(4, 8)) for _ in range(2)])
    assert not torch.equal(runs[0][0], runs[0][1])
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


def test_nothing_is_dropped_in_evaluation_nor_without_rows() -> None:
    layer = RowDropout(0.5, 0)
    with pytest.raises(RuntimeError, match="place_rows"):
        layer(torch.ones(2))
    x = torch.ones(3, 2)
    assert layer.eval()(x) is x
