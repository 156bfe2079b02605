"""What numbers depend on, in their last digits, besides code, settings and inputs."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch


def machine(device: torch.device | str) -> str:
    """The libraries, the processor or GPU, and the threads: where these are equal, so is every bit."""
    kind = torch.device(device).type
    if kind == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        # the kernels that libraries choose depend on the model, not only on the widest instructions
        where = f"{kind}, {_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"{_libraries()}, {where}, {torch.get_num_threads()} threads"


@cache
def _libraries() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "pillow"))


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{platform.machine()} {model or platform.processor()}"
