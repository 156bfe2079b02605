"""The small archives and the model of the tests of tasks."""

from tests.reliability.conftest import voc
from tests.tasks.conftest import coco, model

from .benched import project

__all__ = ["coco", "model", "project", "voc"]
