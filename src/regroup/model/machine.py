"""What numbers depend on, in their last digits, besides code, settings and inputs."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

_CHOOSE_KERNELS = ("DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""In the environment: what MKL and oneDNN are told to use of the processor's instructions."""


def machine(device: torch.device | str) -> str:
    """The libraries, the processor or GPU, and the threads: where these are equal, so is every bit.

    On a CPU also what the environment tells its libraries, whose kernels round otherwise.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        # the kernels that libraries choose depend on the model, not only on the widest instructions
        chosen = [f"{name}={os.environ[name]}" for name in _CHOOSE_KERNELS if os.environ.get(name)]
        where = ", ".join([kind, _processor(), torch.backends.cpu.get_cpu_capability(), *chosen])
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
