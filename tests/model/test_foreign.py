"""Files of other programs: their tensors are read, whatever else they hold is not."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regroup.errors import RegroupError
from regroup.io import write_json
from regroup.model import GroupViT

from .conftest import SMALL, Table
from .loading import load_checkpoint
from .test_checkpoint import same


class Config:
    """Stands for a configuration of a library that is not installed here."""

    def __init__(self) -> None:
        self.lr, self.nested = 0.1, {"a": [np.float64(1.5), np.arange(3)]}


def mixed(state: Table) -> Table:
    """Half of the names with a wrapper's prefix."""
    return {(f"module.{name}" if number % 2 else name): t for number, (name, t) in enumerate(state.items())}


def compiled(state: Table) -> Table:
    return {name.replace("img_encoder.", "module.img_encoder._orig_mod."): t for name, t in state.items()}


LAYOUTS: dict[str, Callable[[Table], Any]] = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "original": lambda state: {
        "model": state,
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))]).state_dict(),
        "max": np.float64(26.8),
        "curve": np.arange(5.0),
        "config": Config(),
        "args": argparse.Namespace(lr=1),
        "path": Path("somewhere"),
        "dtype": np.dtype("float32"),
        "random": torch.get_rng_state(),
    },
    "mmcv": lambda state: {"state_dict": state, "meta": {"epoch": 3}},
    "hugging face trainer": lambda state: {"model_state_dict": state, "epoch": 3},
    "lightning": lambda state: {
        "state_dict": {f"model.{n}": t for n, t in state.items()} | {"loss.weight": torch.ones(2)},
        "hyper_parameters": Config(),
    },
    "parallel": lambda state: {"module." + name: t for name, t in state.items()},
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": t for name, t in state.items()}},
    "compiled inside": compiled,
    "compiled and parallel": lambda state: {"net": {f"module._orig_mod.{n}": t for n, t in state.items()}},
    "mixed prefixes": mixed,
    "parameters": lambda state: {"model": {n: torch.nn.Parameter(t, False) for n, t in state.items()}},
    "deep": lambda state: {"trainer": {"state": {"model": state}}},
    "numbers beside tensors": lambda state: {**state, "epoch": 3, "name": "x"},
    "average beside it": lambda state: {"ema": {n: t + 1 for n, t in state.items()}, "model": state},
    "averaged model beside it": lambda state: {
        "model_ema": {f"module.{n}": t + 1 for n, t in state.items()} | {"n_averaged": torch.tensor(3)},
        "state_dict": state,
    },
    "average in the same table": lambda state: {
        **{f"ema_model.{n}": t + 1 for n, t in state.items()},
        **{f"online_model.{n}": t for n, t in state.items()},
    },
    "average alone": lambda state: {"model_ema": state, "args": None},
    "doubles": lambda state: {n: t.double() if t.is_floating_point() else t for n, t in state.items()},
}


@pytest.mark.parametrize(
    ("layout", "old"),
    [*((name, False) for name in LAYOUTS), *((name, True) for name in ("original", "bare"))],
)
def test_tensors_are_read_from_what_training_code_writes(
    layout: str, old: bool, small: GroupViT, saved: Table, tmp_path: Path
) -> None:
    file = tmp_path / "x.pth"
    torch.save(LAYOUTS[layout](saved), file, _use_new_zipfile_serialization=not old)
    assert same(load_checkpoint(file, config=SMALL), small)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, saved: Table, tmp_path: Path) -> None:
    halved = {name: t.to(dtype) if t.is_floating_point() else t for name, t in saved.items()}
    torch.save(halved, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", config=SMALL)
    assert loaded.image.positions.dtype == torch.float32
    assert torch.equal(loaded.image.positions, halved["img_encoder.pos_embed"][0].float())


def test_which_of_two_models_is_taken_is_said(
    saved: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"model": saved, "model_ema": dict(saved), "config": SMALL.to_dict()}
    torch.save(both, tmp_path / "x.pth")
    load_checkpoint(tmp_path / "x.pth")
    assert "the weights under `model` are taken, not those under `model_ema`" in capsys.readouterr().err


def test_shared_and_strided_tensors(saved: Table, small: GroupViT, tmp_path: Path) -> None:
    weight = saved["img_encoder.norm.weight"]
    both = torch.stack([weight, saved["img_encoder.norm.bias"]], dim=1)  # columns: strides of two
    torch.save(
        saved | {"img_encoder.norm.weight": both[:, 0], "img_encoder.norm.bias": both[:, 1]},
        tmp_path / "x.pth",
    )
    assert same(load_checkpoint(tmp_path / "x.pth", config=SMALL), small)


def test_a_file_without_checksums(saved: Table, small: GroupViT, tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(saved, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert same(load_checkpoint(tmp_path / "x.pth", config=SMALL), small)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_parts(kind: str, small: GroupViT, saved: Table, tmp_path: Path) -> None:
    name = "model.safetensors" if kind == "safetensors" else "pytorch_model.bin"
    names = sorted(saved)
    places = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        file = f"{name}-{number}.{kind}"
        places |= dict.fromkeys(part, file)
        save = save_file if kind == "safetensors" else torch.save
        save({key: saved[key] for key in part}, tmp_path / file)
    write_json(tmp_path / f"{name}.index.json", {"weight_map": places})
    assert same(load_checkpoint(tmp_path, config=SMALL), small)
    for wrong in ("../x.safetensors", "/etc/passwd", "none.bin", ".."):
        write_json(tmp_path / f"{name}.index.json", {"weight_map": places | {names[0]: wrong}})
        with pytest.raises(RegroupError, match=r"weight_map: .* (is no name of a file|is not there)"):
            load_checkpoint(tmp_path)
    write_json(
        tmp_path / f"{name}.index.json", {"weight_map": places | {"img_encoder.other": places[names[0]]}}
    )
    with pytest.raises(RegroupError, match=r"says that it holds img_encoder\.other"):
        load_checkpoint(tmp_path)
