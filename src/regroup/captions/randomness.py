"""Random numbers that depend on what they are for, not on the order in which they are drawn.

A draw is a hash of (seed, epoch, sample, purpose, number). So a sample gets the same labels, templates and
augmentation whichever worker or rank handles it, and after a resume.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: UInt64) -> UInt64:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit."""
    with np.errstate(over="ignore"):
        values = values + _GOLDEN
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def combine(*parts: npt.ArrayLike) -> UInt64:
    """Hash integers (broadcast against each other) into uint64 keys; the order of the parts matters."""
    key = np.zeros((), dtype=np.uint64)
    for part in parts:
        key = mix(key ^ mix(np.asarray(part).astype(np.uint64)))
    return key


def sample_keys(seed: int, epoch: int, samples: npt.ArrayLike) -> UInt64:
    """One key a sample: uint64 of the shape of `samples`."""
    return combine(seed, epoch, samples)


def view_keys(seed: int, image_ids: npt.ArrayLike, keys: UInt64, views: int) -> UInt64:
    """One key a sample, of the `views` that its image has: a key comes again when the image's view does."""
    return combine(seed, image_ids, keys % np.uint64(views))


def uniforms(keys: UInt64, count: int, purpose: int = 0) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) for every key: float64 [*keys.shape, count]."""
    hashed = combine(keys[..., None], purpose, np.arange(count))
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
