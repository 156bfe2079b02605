"""Several processes that share each batch, one GPU each: start, join, average gradients.

The model is not wrapped: objectives gather features with gradient, batch norm is synchronised, and all that
is left for data-parallel training is to average the gradients of the few trained parameters once a step.
Wrappers hook into a single forward, while a step here calls the towers, the projectors and the losses apart.

On one machine `start` makes the processes, which meet through a file, so no port is opened. Over several
machines any launcher that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT does, such as
`torchrun --nnodes 2 --nproc-per-node 4 ... stages/finetune.py --params full/params.yaml --item ge-384`.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from regroup.device import choose_device
from regroup.errors import RegroupError, explain
from regroup.model.collectives import rank, world_size
from regroup.model.encoding import Noise

_MEETING = "REGROUP_MEETING_FILE"


def launched() -> bool:
    """Whether this process is one of several, started by `start` or by a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def start(work: Callable[..., None], processes: int, *arguments: object) -> None:
    """Run `work(*arguments)` in so many new processes of this machine, and wait for them.

    The first process that fails ends the others.

    Raises:
        SystemExit: with the exit status of the process that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_enter, (processes, f"{folder}/meeting", work, arguments), nprocs=processes)
        except ProcessExitedException as error:
            raise SystemExit(error.exit_code) from None


def _enter(
    number: int, processes: int, meeting: str, work: Callable[..., None], arguments: Sequence[object]
) -> None:
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(processes))
    os.environ[_MEETING] = meeting
    try:
        work(*arguments)
    except Exception as error:
        if (message := explain(error)) is None:
            raise
        if number == 0 or not isinstance(error, RegroupError):  # a full disk or no memory may be one's alone
            print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the other processes for the block; yields this process's device.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        RegroupError: cuda is asked for and there is none, or fewer than processes on this machine.
    """
    chosen = choose_device(device, key="finetune.device")
    if not launched():
        if chosen.type == "cuda":
            chosen = torch.device("cuda", _claim_gpu())
            torch.cuda.set_device(chosen)
        yield chosen
        return
    if chosen.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise RegroupError(
                f"finetune.processes: process {local + 1} of this machine has no GPU of its own; torch sees "
                f"{torch.cuda.device_count()}. Ask for fewer processes, or set CUDA_VISIBLE_DEVICES"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    meeting = os.environ.get(_MEETING)
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        init_method=f"file://{meeting}" if meeting else "env://",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        device_id=chosen if chosen.type == "cuda" else None,
    )
    try:
        # nobody may fail, and be gone, before all have met: the others would die of that, and not say why
        wait_for_all()
        yield chosen
    finally:
        dist.destroy_process_group()


_claims: list[int] = []
"""Descriptors of the claimed GPUs' lock files: the claims end with the process."""


def _claim_gpu() -> int:
    """The first GPU that no other run on this machine has claimed, or 0 when all are taken.

    So that stages which a scheduler starts side by side do not all go to the first GPU.
    """
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    names = names or [str(number) for number in range(torch.cuda.device_count())]
    folder = Path(tempfile.gettempdir(), f"regroup-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    for number, name in enumerate(names):
        descriptor = os.open(folder / name.replace("/", "_"), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _claims.append(descriptor)
        return number
    return 0


def share_of(batch: int) -> int:
    """Images of a global batch that each process takes.

    Raises:
        RegroupError: they cannot be shared out evenly.
    """
    size = world_size()
    if batch % size:
        raise RegroupError(
            f"finetune.processes: a batch of {batch} images cannot be shared by {size} processes evenly; "
            "choose a number that divides it"
        )
    return batch // size


def own_rows(noise: Noise, share: int, first: int = 0) -> Noise:
    """The noise of rows `first` to `first + share` of this process's part of a global batch.

    Every process draws the noise of the whole batch and takes its own, so that the sum over processes is what
    one process would have done.
    """
    return Noise(
        None if noise.keep is None else noise.keep[:, first : first + share],
        tuple(part[first : first + share] for part in noise.gumbel),
    )


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one exchange."""
    if world_size() == 1:
        return
    gradients = [
        parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
        for parameter in parameters
    ]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def gathered_values(values: Sequence[int]) -> list[int]:
    """The values of all processes, in the order of their ranks."""
    if world_size() == 1:
        return list(values)
    gathered: list[list[int]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, list(values))
    return [value for part in gathered for value in part]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def is_leader() -> bool:
    """As `is_first`, and also before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0


def is_first() -> bool:
    """Whether this process writes files, reports and shows progress."""
    return rank() == 0
