"""Profiles and variants: what a user may write, and what a mistake says."""

import shutil
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.params import load_params
from regroup.profile import make_profile
from regroup.settings import read_yaml
from regroup.variants_file import check_plugins, load_variants

from .thesis import HERE, edit, enter_project

ROOT = Path(__file__).parents[1]


def edited(tmp_path: Path, name: str, old: str, new: str) -> Path:
    path = shutil.copy(ROOT / name, tmp_path / name)
    edit(path, old, new)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch, "dvc.yaml")


def test_checked_in_settings_are_valid() -> None:
    assert load_params(ROOT / "params.yaml").name == "mini"
    assert "original" in load_variants(HERE.variants)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    learning_rate: 1.0e-4",
            "    learning_rat: 1.0e-4",
            "finetune.optimiser.learning_rat: unknown key; did you mean `learning_rate`?",
        ),
        ("batch_divisor: 8", "batch_divisor: eight", "finetune.batch_divisor"),
        ("\nsources:", "\nsource:", "source: unknown key"),
        ("  coco: {kind: mini", "  coco: {kind: local", "`kind: local` needs `root`"),
        ("name: mini ", "name: ../mini", "name: "),
        ("save_every: 50", "save_every: 0", "finetune.save_every"),
        ("\nsources:", "\nsources: [", "not valid YAML"),
    ],
)
def test_params_mistake_names_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = edited(tmp_path, "params.yaml", old, new)
    with pytest.raises(RegroupError) as error:
        load_params(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_the_wrong_folder_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegroupError, match=f"params.yaml: no such file in {tmp_path}; start this in the pro"):
        load_params(Path("params.yaml"))


def test_params_are_utf8_as_dvc_reads_them(tmp_path: Path) -> None:
    text, path = (ROOT / "params.yaml").read_text(), tmp_path / "params.yaml"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        if encoding == "utf-8-sig":
            assert load_params(path).name == "mini"
        else:
            with pytest.raises(RegroupError, match="not valid YAML: 'utf-8' codec"):
                load_params(path)


def test_missing_params_file() -> None:
    with pytest.raises(RegroupError, match=r"nowhere\.yaml: no such file"):
        load_params(Path("nowhere.yaml"))


VARIANTS = """
variants:
  plain:
    title: Contrastive and multi-label
    objectives: [{name: contrastive}, {name: multi_label}]
    rows: [{table: 6, row: refined}]
  entropy:
    title: With group entropy
    batch: 512
    objectives: [{name: contrastive}, {name: multi_label}, {name: group_entropy}]
    rows: [{table: 9, row: ge}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{name: group_entropy}", "{name: group_entropi}", "variants.entropy.objectives"),
        ("batch: 512", "batsh: 512", "variants.entropy.batsh: unknown key; did you mean `batch`?"),
        ("batch: 512", "trainable: both", "variants.entropy.trainable"),
        (
            "{name: group_entropy}",
            "{name: group_entropy, options: {from: thesis}}",
            "variants.entropy.objectives.group_entropy: from: unknown key; did you mean `form`?",
        ),
        ("batch: 512", "labels: {source: none}", "multi_label needs labels"),
        ("batch: 512", "labels: {count: 0}", "multi_label needs labels"),
        ("    batch: 512\n", "", None),
        (
            "batch: 512\n    objectives: [{name: contrastive}, {name: multi_label}, {name: group_entropy}]",
            "objectives: [{name: contrastive}, {name: multi_label}]",
            "variants.entropy and variants.plain are the same run",
        ),
    ],
)
def test_variants_mistake_names_the_entry(tmp_path: Path, old: str, new: str, message: str | None) -> None:
    assert old in VARIANTS
    path = tmp_path / "variants.yaml"
    path.write_text(VARIANTS.replace(old, new))
    if message is None:
        assert set(load_variants(path)) == {"plain", "entropy"}
        return
    with pytest.raises(RegroupError) as error:
        check_plugins(load_variants(path), path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_profile_lays_overrides_over_the_default(project: Path) -> None:
    folder = project / "mine"
    folder.mkdir()
    (folder / "overrides.yaml").write_text(
        "sources: {coco: {kind: local, root: /datasets/coco}, voc12: null, context: null, ade: null}\n"
        "finetune.max_steps: 3\n"
    )
    make_profile(Path("mine"))
    params = load_params(folder / "params.yaml")
    assert params.name == "mine"
    assert set(params.sources) == {"coco"}
    assert params.sources["coco"].root == Path("/datasets/coco")
    assert params.finetune.max_steps == 3
    assert params.finetune.batch_divisor == load_params(ROOT / "params.yaml").finetune.batch_divisor
    assert "edit that" in (folder / "dvc.yaml").read_text().partition("\n")[0]
    graph, root = read_yaml(folder / "dvc.yaml"), read_yaml(project / "dvc.yaml")
    assert graph["vars"] == ["../studies/thesis/variants.yaml"]
    # the thesis borrows nothing
    assert list(graph["stages"]) == [name for name in root["stages"] if name != "borrow"]
    assert graph["stages"]["finetune"] == root["stages"]["finetune"]
    assert "# captions that count as one epoch" in (folder / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finetune: {max_step: 3}", "finetune.max_step: unknown key"),
        ("finetune.max_steps.x: 3", "`max_steps` is one value, not a mapping"),
        ("name: mini", "name: is 'mine' for a profile in this folder"),
        ("base: mine", "no profile `mine` here"),
        ("[1, 2]", "must be a mapping"),
        (None, "no such file"),
    ],
)
def test_bad_overrides_leave_nothing_behind(project: Path, text: str | None, message: str) -> None:
    folder = project / "mine"
    folder.mkdir()
    if text is not None:
        (folder / "overrides.yaml").write_text(text)
    with pytest.raises(RegroupError, match=message):
        make_profile(Path("mine"))
    assert not (folder / "params.yaml").exists()


def test_a_folder_with_a_graph_of_its_own_is_no_profile(project: Path) -> None:
    folder = project / "mine"
    folder.mkdir()
    (folder / "overrides.yaml").write_text("finetune.max_steps: 3\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(RegroupError, match=r"mine/dvc\.yaml: was not made by `regroup profile`"):
        make_profile(Path("mine"))
    assert (folder / "dvc.yaml").read_text() == "stages: {}\n"


def test_profile_is_made_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RegroupError, match="project's root"):
        make_profile(Path("mine"))
