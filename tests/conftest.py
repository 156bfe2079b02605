"""Here so that tests of every folder may import the helpers that lie in this one.

Shapes in signatures (jaxtyping) are checked throughout the tests, in the packages that are named below.
"""

import os
import sys
from collections.abc import Iterator

# Small models gain nothing from a second thread and wait for it on a busy machine; several also share out a
# sum and round it otherwise, and tests compare last bits. Set before anything imports torch, and for every
# process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from jaxtyping import install_import_hook

install_import_hook(["regroup.objectives", "regroup.backbones.clip"], "beartype.beartype")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A stage that a test has run leaves its own number of threads behind."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
