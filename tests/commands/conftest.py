"""The small COCO archive and the model of the tests of tasks."""

from tests.tasks.conftest import coco, model

__all__ = ["coco", "model"]
