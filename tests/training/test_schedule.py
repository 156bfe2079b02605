"""The learning rate at the points that section 5.3 fixes."""

import pytest

from regroup.training.schedule import learning_rate
from regroup.training.settings import OptimiserParams

STUDY = OptimiserParams()
EPOCH = 100


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 4e-8),
        (0.5, (4e-8 + 1.6e-5) / 2),
        (6, (1.6e-5 + 4e-7) / 2),  # half of a cosine of 12 epochs
        (12, 1.6e-5),  # the second cycle starts at the full rate
        (18, (1.6e-5 + 4e-7) / 2),
        (24, 4e-7),
        (29.99, 4e-7),
    ],
)
def test_rates_of_the_study(epoch: float, rate: float) -> None:
    assert learning_rate(round(epoch * EPOCH), EPOCH, STUDY) == pytest.approx(rate, rel=1e-9)


def test_rate_falls_within_each_cycle_after_warmup() -> None:
    for start, stop in ((1, 12), (12, 24)):
        rates = [learning_rate(step, EPOCH, STUDY) for step in range(start * EPOCH, stop * EPOCH)]
        assert rates == sorted(rates, reverse=True)
        assert len(set(rates)) == len(rates)


def test_no_warmup() -> None:
    settings = OptimiserParams(warmup_epochs=0)
    assert learning_rate(0, EPOCH, settings) == settings.learning_rate
