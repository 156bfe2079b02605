"""A server for downloads, and waits that take no time."""

from collections.abc import Iterator

import pytest

from .server import Site, serving


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("regroup.sources.transfer._LONGEST_WAIT", 0.0)
    with serving(Site()) as running:
        yield running
