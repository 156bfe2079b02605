"""Expected calibration error against a loop and closed forms, and thresholds against scores one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from regroup.reliability.calibration import Reliability
from regroup.reliability.thresholds import Thresholds, best_threshold


def plain_ece(confidence: list[float], right: list[bool], bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        mine = [k for k, sure in enumerate(confidence) if low < sure <= high or (number == 0 and sure == 0)]
        if mine:
            sure = sum(confidence[k] for k in mine) / len(mine)
            total += len(mine) * abs(sum(right[k] for k in mine) / len(mine) - sure)
    return 100 * total / len(confidence)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_that_of_a_loop(seed: int, bins: int) -> None:
    """Counted image by image; confidences on the edges of bins among them, 0 and 1 too."""
    draw = np.random.default_rng(seed)
    confidence = draw.random(600)
    confidence[:4], confidence[4:8] = (0, 1, 0.25, 0.5), 1
    right = draw.random(600) < confidence**2
    found = Reliability(bins)
    for some in np.split(np.arange(600), 4):
        found.add(torch.tensor(confidence[some]).view(10, 15), torch.tensor(right[some]).view(10, 15))
    assert found.pixels == 600
    assert found.ece == pytest.approx(plain_ece(confidence.tolist(), right.tolist(), bins))
    assert found.accuracy == pytest.approx(100 * right.mean())
    assert found.confidence == pytest.approx(100 * confidence.mean())
    table = found.table()
    assert [one.pixels for one in table] == [
        int(((confidence > one.low) & (confidence <= one.high)).sum())
        + (k == 0) * int((confidence == 0).sum())
        for k, one in enumerate(table)
    ]
    assert sum(one.pixels * (one.accuracy or 0) for one in table) == pytest.approx(right.sum())


def test_always_right_and_sure_is_none_and_always_wrong_is_all() -> None:
    for right, error in ((True, 0), (False, 100)):
        found = Reliability(15)
        found.add(torch.ones(7), torch.full((7,), right))
        assert found.ece == error
        assert found.confidence == 100
        assert found.table()[-1].pixels == 7
        assert found.table()[0].accuracy is None


def test_as_often_right_as_sure_is_nearly_none() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.random(200_000)
    found = Reliability(15)
    found.add(torch.tensor(confidence), torch.tensor(draw.random(200_000) < confidence))
    assert found.ece < 0.6  # 0 but for sampling: some 0.43 / sqrt(200,000 / 15) a bin


def test_the_best_threshold_is_the_smallest_of_equals() -> None:
    assert best_threshold({0.9: 12.0, 0.1: 5.0, 0.5: 12.0}) == 0.5
    assert best_threshold({0.7: 0.0, 0.2: 0.0}) == 0.2


def test_a_threshold_is_chosen_by_the_training_split_alone() -> None:
    """The two splits disagree: what is best on the scored one is the oracle, and nothing else."""
    found = Thresholds(
        fixed=0.3,
        grid=(0.0, 0.1, 0.5),
        train={0.0: 5.0, 0.1: 9.0, 0.5: 7.0},
        val={0.0: 2.0, 0.1: 3.0, 0.3: 30.0, 0.5: 8.0},
        images=4,
    )
    assert found.chosen == 0.1
    assert found.best == 0.5, "of the grid; the fixed threshold is none of it"
