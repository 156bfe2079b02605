"""Files of weights: safetensors and pickles, of which nothing is unpickled but tensors."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from regroup.errors import RegroupError

State = dict[str, Tensor]

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def read_tensors(path: Path) -> State:
    """Read a table of tensors: safetensors, or a pickle of tensors, by itself or under `model`.

    Raises:
        RegroupError: the file is missing, or holds anything but tensors and plain values.
    """
    return read_content(find_weights(path))[0]


def find_weights(path: Path) -> Path:
    """The weights file that `path` means: itself, or `model.safetensors` or `pytorch_model.bin` inside it."""
    if path.is_dir():
        for name in (WEIGHTS, "pytorch_model.bin"):
            if (path / name).is_file():
                return path / name
        raise RegroupError(f"{path}: holds neither {WEIGHTS} nor pytorch_model.bin")
    if not path.is_file():
        raise RegroupError(f"{path}: no such file or folder")
    return path


def read_content(file: Path) -> tuple[State, object]:
    """The tensors of a file, and what it holds under `config`."""
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    state = content.get("model", content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RegroupError(f"{file}: holds no table of tensors; expected weights")
    tensors = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return tensors, content.get("config") if "model" in content else None


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        return dict(load_file(file))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise RegroupError(f"{file}: not a safetensors file ({error})") from None


def _read_pickle(file: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of a foreign pickle protocol: what cannot be read is an error below
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RegroupError(
            f"{file}: cannot be read as tensors alone ({reason}); nothing else is unpickled. "
            "Check the download, save the tensors by themselves, or take the same weights as safetensors"
        ) from None
    if not isinstance(content, dict):
        raise RegroupError(f"{file}: holds {type(content).__name__}, not a table of tensors")
    return content
