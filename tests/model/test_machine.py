"""What tells one machine's numbers from another's."""

from __future__ import annotations

import pytest

from regroup.model.machine import machine


@pytest.mark.parametrize("name", ["MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"])
def test_other_kernels_are_another_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    usual = machine("cpu")
    monkeypatch.setenv(name, "AVX2")
    assert f"{name}=AVX2" in machine("cpu")
    assert machine("cpu") != usual
    monkeypatch.setenv(name, "")
    assert machine("cpu") == usual
