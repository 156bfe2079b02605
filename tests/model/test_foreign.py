"""Files of other programs: their tensors are read, whatever else they hold is not, and none of it runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regroup.backbones import read_checkpoint
from regroup.errors import RegroupError
from regroup.io import write_json
from regroup.model import GroupViT, save_checkpoint
from regroup.model.checkpoint import export_state
from regroup.model.names import ORIGINAL

from .conftest import SMALL
from .loading import load_checkpoint
from .test_checkpoint import same

Table = dict[str, torch.Tensor]


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


@pytest.fixture
def saved(small: GroupViT) -> Table:
    """The small model under the original's names; being compact, it needs our configuration."""
    return export_state(small, ORIGINAL)


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


class Reduced:
    """Pickled as the call of `what`."""

    def __init__(self, what: Any, *arguments: Any) -> None:
        self.call = (what, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SHELL = text("touch exploded")
HOSTILE = {
    "os.system": pickle.dumps(Reduced(os.system, "touch exploded")),
    "posix.system by name": program(b"cposix\nsystem\n" + SHELL + b"\x85R"),
    "nt": program(b"cnt\nsystem\n" + SHELL + b"\x85R"),
    "builtins.eval": pickle.dumps(Reduced(eval, "open('exploded', 'w')")),
    "exec": program(b"c__builtin__\nexec\n" + text("open('exploded', 'w')") + b"\x85R"),
    "a dotted name": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + SHELL + b"\x85R.",
    "getattr of an import": program(
        b"c__builtin__\ngetattr\nc__builtin__\n__import__\n"
        + text("os")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + SHELL
        + b"\x85R"
    ),
    "functools.partial": program(b"cfunctools\npartial\ncos\nsystem\n" + SHELL + b"\x86R)R"),
    "torch.load inside": program(b"ctorch\nload\n" + text("x.pth") + b"\x85R"),
    "torch's own helpers": program(
        b"ctorch._utils\n_import_dotted_name\n" + text("os.system") + b"\x85R" + SHELL + b"\x85R"
    ),
    "a tensor's maker on a function": program(
        b"ctorch._utils\n_rebuild_parameter\ncos\nsystem\n\x85R" + SHELL + b"\x85R"
    ),
    "a call inside a call": program(
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\ncos\nsystem\n" + SHELL + b"\x85NtR"
    ),
    "INST": program(b"(" + SHELL + b"ios\nsystem\n"),
    "OBJ": program(b"(cos\nsystem\n" + SHELL + b"o"),
    "NEWOBJ": program(b"csubprocess\nPopen\n" + SHELL + b"\x85\x81"),
    "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n" + SHELL + b"\x85}\x92.",
    "BUILD calls __setstate__": program(b"ccode\nInteractiveInterpreter\n)\x81" + SHELL + b"b"),
    "BUILD on a dict": program(b"}" + SHELL + b"b"),
    "a persistent id of a string": program(SHELL + b"Q"),
    "a persistent id of a call": program(
        b"(" + text("storage") + b"cos\nsystem\n" + text("0") + SHELL + b"K\x01tQ"
    ),
    "an extension's code": program(b"\x82\x01"),
    "unknown instruction": program(b"\xff"),
    "an empty stack": program(b"0000"),
    "a mark that is not there": program(b"t"),
    "a memo that is not there": program(b"h\x07"),
    "no end": b"\x80\x02}",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "bytes of 2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
    "a memo of 2^32": program(b"}r\xff\xff\xff\xff"),
    "a key that hashes for ever": program(b"K\x00\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"}h\x00K\x01s"),
    "a million laughs": program(b"]q\x00" + b"]q\x01(h\x00h\x00h\x00h\x00eq\x00" * 200),
    "deep lists": program(b"]" * 100_000 + b"a" * 99_999),
    "deep calls": program(b"ctorch._tensor\n_rebuild_from_type_v2\nq\x00" * 1 + b"h\x00NN" * 3000),
}


def zipped(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/version", "3\n")
        archive.writestr("x/data/0", bytes(16))
    return buffer.getvalue()


@pytest.mark.parametrize("wrapped", [zipped, bytes], ids=["zip", "alone"])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_in_a_file_is_run(
    name: str, wrapped: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pth").write_bytes(wrapped(HOSTILE[name]))
    started = time.perf_counter()
    with pytest.raises(RegroupError) as error:
        load_checkpoint(Path("x.pth"))
    assert time.perf_counter() - started < 5
    assert [path.name for path in Path().iterdir()] == ["x.pth"]
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 600
    assert "weights_only" not in message


def test_code_beside_the_tensors_is_not_run(
    saved: Table, small: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": saved, "config": Reduced(os.system, "touch exploded")}, "x.pth")
    assert same(load_checkpoint(Path("x.pth"), config=SMALL), small)
    assert [path.name for path in Path().iterdir()] == ["x.pth"]


def storage(count: int, key: str = "0") -> bytes:
    return (
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text(key)
        + text("cpu")
        + b"J"
        + struct.pack("<i", count)
        + b"tQ"
    )


def tensor(stored: bytes, offset: int, size: int, stride: int) -> bytes:
    numbers = b"".join(b"J" + struct.pack("<i", number) for number in (offset,))
    shape = b"J" + struct.pack("<i", size) + b"\x85J" + struct.pack("<i", stride) + b"\x85"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + numbers + shape + b"\x89}tR"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (tensor(storage(4), 0, 5, 1), "reaches beyond the 4 numbers"),
        (tensor(storage(4), 1, 4, 1), "reaches beyond the 4 numbers"),
        (tensor(storage(4), -1, 1, 1), "negative"),
        (tensor(storage(4), 0, 2, -1), "negative"),
        (tensor(storage(4), 0, 2**30, 0), "far more numbers than the file holds"),
        (tensor(storage(2**30), 0, 4, 1), "too few for"),
        (tensor(storage(4, "../../x"), 0, 4, 1), "cannot be read"),
        (tensor(storage(4, "9"), 0, 4, 1), "cannot be read"),
    ],
)
def test_tensors_that_lie_about_their_numbers(made: bytes, reason: str, tmp_path: Path) -> None:
    named = text("img_encoder.pos_embed")
    (tmp_path / "x.pth").write_bytes(zipped(program(b"}" + named + made + b"s")))
    with pytest.raises(RegroupError, match=rf"x\.pth: img_encoder\.pos_embed: .*{reason}"):
        load_checkpoint(tmp_path / "x.pth")


def test_a_tensor_without_numbers(saved: Table, tmp_path: Path) -> None:
    torch.save(saved | {"img_encoder.norm.bias": torch.empty(24, device="meta")}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match=r"img_encoder\.norm\.bias: .*saved from the meta device"):
        load_checkpoint(tmp_path / "x.pth")


def test_flipped_bits_are_noticed(saved: Table, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "x.pth")
    content = bytearray((tmp_path / "x.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(RegroupError, match="checksum"):
        load_checkpoint(tmp_path / "x.pth")


def test_compressed_and_overlapping_archives(saved: Table, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
        archive.writestr("x/data/0", bytes(1 << 20))
    with pytest.raises(RegroupError, match="compressed"):
        load_checkpoint(tmp_path / "x.pth")
    content = zipped(program(b"}"))
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content = content[: entry + 20] + struct.pack("<II", 2**31, 2**31) + content[entry + 28 :]
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(RegroupError, match="larger than the file"):
        load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>Access denied</html>", "a text that begins with `<!DOCTYPE html>"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "it is empty"),
        (b"\x1b[31mred\x1b[0m" * 8, "check the download"),
        (bytes(range(200, 256)), "begins with the bytes c8 c9"),
    ],
)
def test_what_is_no_checkpoint_is_said_in_words(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(RegroupError) as error:
        load_checkpoint(tmp_path / "x.pth")
    assert said in str(error.value)
    assert "\x1b" not in str(error.value)


def test_the_class_in_the_way_is_named(small: GroupViT, tmp_path: Path) -> None:
    torch.save({"model": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match=r"`args` \(an object of argparse\.Namespace\)"):
        load_checkpoint(tmp_path / "x.pth")
    torch.save(small, tmp_path / "y.pth")
    with pytest.raises(RegroupError, match=r"an object of regroup\.model\.groupvit\.GroupViT.*state_dict"):
        load_checkpoint(tmp_path / "y.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, small: GroupViT, tmp_path: Path) -> None:
    with torch.no_grad():
        small.image.norm.weight[3] = value
    save_checkpoint(small, tmp_path / "ours")
    torch.save(export_state(small, ORIGINAL), tmp_path / "x.pth")
    with pytest.raises(
        RegroupError, match=r"ours/model\.safetensors: weights are not finite.*image\.norm\.weight"
    ):
        load_checkpoint(tmp_path / "ours")
    with pytest.raises(RegroupError, match="not finite"):
        load_checkpoint(tmp_path / "x.pth", config=SMALL)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("img_encoder.norm.weight", lambda t: t.double() * 1e300, "not finite"),  # finite until it is float32
        ("img_projector.linear_hidden.1.running_var", torch.neg, "make no sense"),
        ("logit_scale", lambda t: t + 500, "make no sense"),
        ("text_encoder.token_index", lambda t: t + 5000, "make no sense"),
        ("img_encoder.norm.weight", lambda t: (t * 10).to(torch.int8), "holds torch.int8"),
    ],
)
def test_finite_weights_that_no_model_has(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], said: str, saved: Table, tmp_path: Path
) -> None:
    torch.save(saved | {name: change(saved[name])}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match=said):
        load_checkpoint(tmp_path / "x.pth", config=SMALL)


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *path, last = key.split(".")
    inner: Any = config
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image.stages.0.depth", 10**9),
        ("image.stages.0.depth", -1),
        ("image.mlp_ratio", float("nan")),
        ("image.mlp_ratio", float("inf")),
        ("image.assign_eps", float("inf")),
        ("image.width", 10**400),
        ("image.image_size", 8 * 10**9),
        ("text.depth", 10**9),
        ("text.context", 10**12),
        ("projector_hidden", 10**12),
        ("projector_hidden", 200_000),  # in bounds, but not what the tensors are
        ("joint_width", 0),
        ("image.stages", [{"depth": 1, "group_tokens": 1}] * 1000),
        ("\x1b[31m", 1),
    ],
)
def test_absurd_configurations_take_no_memory(
    key: str, value: Any, small: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    save_checkpoint(small, tmp_path)
    config = changed(json.loads((tmp_path / "config.json").read_text()), key, value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(GroupViT, "allocate", lambda self: pytest.fail("memory was taken"))
    started = time.perf_counter()
    with pytest.raises(RegroupError) as error:
        load_checkpoint(tmp_path)
    assert time.perf_counter() - started < 5
    assert str(tmp_path) in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("content", ["[]", "3", "{", "\xff", '{"image": {}}', ""])
def test_broken_configurations(content: str, small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path)
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(RegroupError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_a_key_that_is_missing_is_no_default(small: GroupViT, tmp_path: Path) -> None:
    """Tensors do not show the number of heads: with the default, all numbers would be others."""
    import json

    save_checkpoint(small, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["image"]["heads"]
    write_json(tmp_path / "config.json", config)
    with pytest.raises(RegroupError, match=r"config\.json: image\.heads: this key is missing"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_safetensors_that_lie_or_are_cut(cut: int, small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    lies = [
        whole[:cut],
        struct.pack("<Q", 2**62) + whole[8:],
        whole.replace(b'"F32"', b'"F64"', 1),
        whole.replace(b'"shape":[24]', b'"shape":[99]', 1),
        whole.replace(b'"shape":[24]', b'"shape":[-1]', 1),
    ]
    for lie in lies:
        file.write_bytes(lie)
        with pytest.raises(RegroupError, match="not a safetensors file"):
            read_checkpoint(tmp_path)


def test_many_strange_names_make_a_short_message(saved: Table, tmp_path: Path) -> None:
    strange = {f"img_encoder.\x1b[31m{number}": torch.zeros(1) for number in range(5000)}
    torch.save(saved | strange, tmp_path / "x.pth")
    with pytest.raises(RegroupError) as error:
        load_checkpoint(tmp_path / "x.pth", config=SMALL)
    assert "5000 unexpected" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 2000
