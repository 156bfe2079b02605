"""The small corpus that the tests of training share."""

from pathlib import Path

import pytest

from .tiny import make_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))
