"""Plugins are found by listing, told what their own `Options` allow, and known by their code alone."""

import sys
from pathlib import Path

import pytest
from pydantic import Field

from regroup.errors import RegroupError
from regroup.plugins import Room, Shelf
from regroup.settings import Settings

FILES = {
    "__init__.py": "",
    "_shared.py": "from toy_room._deeper import x\n",
    "_deeper.py": "x = 1\n",
    "plain.py": "import os\n",
    "plain.yaml": "read: by plain.py\n",
    "strict.py": (
        "from pydantic import Field\n"
        "from regroup.settings import Settings\n"
        "from . import _shared\n"
        "class Options(Settings):\n"
        "    weight: float = Field(default=0.1, ge=0, le=1)\n"
    ),
    "large/__init__.py": "from .part import y\n",
    "large/part.py": "y = 1\n",
    "notes.md": "not a plugin\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "toy_room" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.split(".")[0] == "toy_room"]:
        monkeypatch.delitem(sys.modules, module)
    return tmp_path / "toy_room"


def room() -> Room:
    return Room("toy_room", "toy")


def test_every_file_and_folder_is_one_but_those_that_are_shared(folder: Path) -> None:
    assert room().names == ("large", "plain", "strict")
    (folder / "new.py").touch()
    assert "new" in room().names


def test_an_unknown_name_is_answered_with_those_there_are(folder: Path) -> None:
    with pytest.raises(RegroupError, match=r"strickt: no such toy; did you mean `strict`\?; there are "):
        room().load("strickt")


@pytest.mark.parametrize("name", ["_shared", "notes", "..", "", "strict.py"])
def test_what_is_no_plugin_is_not_loaded(folder: Path, name: str) -> None:
    with pytest.raises(RegroupError, match="no such toy"):
        room().load(name)


def test_options_are_checked_by_the_plugin(folder: Path) -> None:
    assert room().options("strict", {}).model_dump() == {"weight": 0.1}
    with pytest.raises(RegroupError, match=r"^variants.a: weight: .*less than or equal to 1 \(got 2\)"):
        room().options("strict", {"weight": 2}, where="variants.a")
    with pytest.raises(RegroupError, match=r"^strict: wieght: unknown key; did you mean `weight`\?"):
        room().options("strict", {"wieght": 1})
    with pytest.raises(RegroupError, match="plain: weight: unknown key"):
        room().options("plain", {"weight": 1})


def test_a_digest_is_of_a_plugins_own_code(folder: Path) -> None:
    before = {name: room().digest(name) for name in room().names}

    def changed(file: str) -> set[str]:
        (folder / file).write_text((folder / file).read_text() + "z = 1\n")
        found = {name for name in before if room().digest(name) != before[name]}
        before.update({name: room().digest(name) for name in found})
        return found

    assert changed("plain.py") == {"plain"}
    assert changed("_deeper.py") == {"strict"}
    assert changed("large/part.py") == {"large"}
    assert changed("plain.yaml") == {"plain"}
    (folder / "new.py").touch()
    assert {name: room().digest(name) for name in before} == before


def test_a_digest_knows_nothing_of_lines_or_places(folder: Path) -> None:
    before = room().digest("strict")
    (folder / "strict.py").write_bytes(FILES["strict.py"].replace("\n", "\r\n").encode())
    assert room().digest("strict") == before


def test_a_shelf_lists_its_files_and_refuses_what_is_none(tmp_path: Path) -> None:
    class Coat(Settings):
        size: int = Field(default=1, ge=1, le=9)

    for name, text in (("red", "size: 3"), ("blue", "{}"), ("_shared", "size: 1"), ("torn", "sise: 3")):
        (tmp_path / f"{name}.yaml").write_text(text)
    shelf = Shelf(tmp_path, "coat", Coat)
    assert shelf.names == ("blue", "red", "torn")
    assert (shelf.load("red").size, shelf.load("blue").size) == (3, 1)
    with pytest.raises(
        RegroupError, match=r"rad: no such coat; did you mean `red`\?; there are blue, red, torn"
    ):
        shelf.load("rad")
    with pytest.raises(RegroupError, match=r"torn\.yaml: sise: unknown key; did you mean `size`"):
        shelf.load("torn")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def loss(:\n", r"broken\.py: cannot be (imported|read as Python): invalid syntax \(.*line 1\)"),
        (
            "import nowhere_at_all\n",
            r"broken\.py: cannot be imported: ModuleNotFoundError: .*broken\.py, line 1",
        ),
        ("x = 1 / 0\n", r"broken\.py: cannot be imported: ZeroDivisionError: .*broken\.py, line 1"),
        ("def lose(): ...\n", r"broken\.py: has no function `loss`; `toy_room` says what a toy has"),
        ("loss = 3\n", r"broken\.py: has no function `loss`"),
        ("def loss(): ...\nclass Options: ...\n", r"broken\.py: `Options` is no class of `Settings`"),
        ("def loss(): ...\nOptions = 3\n", r"broken\.py: `Options` is no class of `Settings`"),
    ],
)
def test_a_plugin_that_is_none_is_named_with_its_file(folder: Path, text: str, complaint: str) -> None:
    (folder / "broken.py").write_text(text)
    asks = Room("toy_room", "toy", ("loss",))
    with pytest.raises(RegroupError, match=complaint):
        asks.options("broken", {})


def test_code_that_cannot_be_read_has_no_digest(folder: Path) -> None:
    (folder / "broken.py").write_text("def loss(:\n")
    with pytest.raises(RegroupError, match=r"broken\.py: cannot be read as Python: invalid syntax"):
        room().digest("broken")
