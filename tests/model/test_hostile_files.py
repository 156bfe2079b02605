"""Checkpoints that were made to do harm, or are damaged: nothing in them is run, and the fault is said."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.backbones import read_checkpoint
from regroup.errors import RegroupError
from regroup.model import GroupViT, save_checkpoint

from .conftest import SMALL, Table
from .loading import load_checkpoint
from .test_checkpoint import same


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
