"""mmsegmentation, imported quietly: it prints and warns about optional parts that are not used here."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

with contextlib.redirect_stdout(io.StringIO()):
    from mmcv.transforms import BaseTransform
    from mmengine.logging import MMLogger
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import PackSegInputs
    from mmseg.evaluation import IoUMetric
    from mmseg.registry import DATASETS, TRANSFORMS

__all__ = ["DATASETS", "TRANSFORMS", "BaseSegDataset", "BaseTransform", "IoUMetric", "PackSegInputs", "quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep mmengine's logger from printing anything less than an error inside the block."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
