"""`regroup verify`: what was made beside what is checked in."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.report.verify import PROCESSORS, read_claims, read_scores

ROOT = Path(__file__).parents[2]
TRAINED = "title: {}, seeds: {}, objectives: [{{name: contrastive}}], rows: [{{table: 9, row: {}}}]"
VARIANTS = {
    "original": "title: As it came, trainable: nothing",
    "ge": TRAINED.format("GE", [123], "ge"),
    "le": TRAINED.format("LE", [0, 1, 2], "le"),
}
SCORES = {
    "original": (14.0, 63.0),
    "ge": (17.0, 59.0),
    "le seed 0": (17.0, 60.0),
    "le seed 1": (18.0, 60.5),
    "le seed 2": (16.0, 61.0),
}
MOVED = """**What moved (mini)**

| Table | Claim | thesis | ours (mini) |
| --- | --- | --- | --- |
| 4 | Bigger is better. [COCO] | agree, 1 of 1 | {} |
| 9 | With a \\| in it. [PVOC] | missing | cannot tell, 1 of 2 |

- a note
"""


def write(folder: Path, scores: dict[str, tuple[float, float]], verdict: str = "agree, 1 of 1") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {name: name.partition(" seed ") for name in scores}
    lines = [
        f"{names[name][0]},{names[name][2]},{coco:g},{voc:g},,\n" for name, (coco, voc) in scores.items()
    ]
    (folder / "scores.csv").write_text("variant,seed,coco,voc,context,ade\n" + "".join(lines))
    (folder / "what_moved.md").write_text(MOVED.format(verdict))


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose scores are checked in."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    listed = "".join(f"  {name}: {{{entry}}}\n" for name, entry in VARIANTS.items())
    (tmp_path / "studies/thesis").mkdir(parents=True)
    (tmp_path / "studies/thesis/variants.yaml").write_text(f"variants:\n{listed}")
    write(tmp_path / "reports/mini/tables", SCORES)
    (tmp_path / "reports/mini/metrics").mkdir()
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["verify", *words])
    captured = capsys.readouterr()
    return int(str(ended.value.code)), captured.out + captured.err


def made(
    change: Callable[[dict[str, tuple[float, float]]], None] = lambda _: None, verdict: str = "agree, 1 of 1"
) -> None:
    scores = dict(SCORES)
    change(scores)
    write(Path("reports/mini/tables"), scores, verdict)


def test_equal_scores_are_said_to_be(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = run(capsys)
    assert (status, said.count("\n")) == (0, 1)
    assert "all 10 scores are those of HEAD (" in said
    assert "no claim changed sides" in said


def test_where_nothing_was_made_the_line_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reports/mini/metrics").rmdir()
    status, said = run(capsys)
    assert (status, said.count("\n")) == (0, 1)
    assert said.endswith("; nothing was made here yet (reports/mini/metrics is not there)\n")


def test_what_another_processor_does_is_within(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(lambda scores: scores.update(ge=(17.31, 58.8)))
    status, said = run(capsys)
    assert (status, said.count("\n")) == (0, 1)
    assert "2 of 10 scores differ from HEAD" in said
    assert "by 0.31 points at most (ge on coco) and 0.12 in root mean square" in said
    assert "within what another processor does" in said


def test_what_only_seeds_do_is_within_and_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(lambda scores: scores.update(ge=(18.5, 59.0)))
    status, said = run(capsys)
    assert status == 0
    assert "within what seeds do, more than was seen of another processor" in said
    assert PROCESSORS.largest < 1.5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        # seeds spread by 0.5 points on VOC: two runs are at most 4.303 * sqrt(2) * 0.5 apart by chance
        (lambda scores: scores.update(ge=(17.0, 55.9)), "ge on voc: -3.10, limit 3.04"),
        (lambda scores: scores.update(original=(14.02, 63.0)), "original on coco: +0.02, limit 0.01"),
        (
            lambda scores: scores.update(
                {name: (coco, voc - 2) for name, (coco, voc) in SCORES.items() if name != "original"}
            ),
            "together OUTSIDE (voc: -2.00 on average, limit 1.52)",
        ),
        (lambda scores: scores.pop("ge"), "2 missing (ge on coco)"),
    ],
)
def test_what_chance_does_not_explain_is_outside(
    project: Path, capsys: pytest.CaptureFixture[str], change: Callable[..., None], reason: str
) -> None:
    made(change)
    status, said = run(capsys)
    assert (status, said.count("\n")) == (1, 1)
    assert reason in said


@pytest.mark.parametrize(
    ("verdict", "status", "words"),
    [
        ("disagree, 0 of 1", 1, "1 claim(s) CHANGED SIDES (table 4: agree -> disagree)"),
        ("cannot tell, 1 of 1", 0, "no claim changed sides, 1 became more or less clear"),
        ("agree, 2 of 2", 0, "no claim changed sides"),
    ],
)
def test_a_claim_that_changed_sides_is_outside(
    project: Path, capsys: pytest.CaptureFixture[str], verdict: str, status: int, words: str
) -> None:
    made(verdict=verdict)
    found, said = run(capsys)
    assert (found, words in said) == (status, True)


def test_the_table_and_json_tell_every_difference(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(lambda scores: scores.update(ge=(17.31, 50.0), new=(1.0, 2.0)), verdict="disagree, 0 of 1")
    status, said = run(capsys, "--table")
    assert status == 1
    lines = said.splitlines()
    assert lines[2].split() == ["ge", "voc", "59.00", "50.00", "-9.00", "3.04", "OUTSIDE"]
    assert lines[3].split() == ["ge", "coco", "17.00", "17.31", "+0.31", "6.08"]
    assert lines[4] == "table 4: agree -> disagree, CHANGED SIDES: Bigger is better. [COCO]"
    status, said = run(capsys, "--json")
    found = json.loads(said)
    assert (status, found["within"], found["compared"], found["not_checked_in"]) == (1, False, 10, 2)
    assert [one["within"] for one in found["differences"]] == [False, True]
    assert found["claims"][0]["changed_sides"]


def test_another_commit_and_a_folder_can_be_compared_with(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(lambda scores: scores.update(ge=(17.1, 59.0)))
    git(project, "commit", "-qam", "made on another machine")
    assert "all 10 scores" in run(capsys)[1]
    assert "1 of 10 scores differ from HEAD~1 (" in run(capsys, "--against", "HEAD~1")[1]
    write(project / "elsewhere", SCORES)
    assert "1 of 10 scores differ from elsewhere," in run(capsys, "--against", "elsewhere")[1]
    shutil.rmtree(project / ".git")
    status, said = run(capsys)
    assert (status, "no git here" in said, "--against FOLDER" in said) == (2, True, True)
    assert run(capsys, "--against", "elsewhere")[0] == 0


def test_what_cannot_be_compared_is_one_message(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for against in ("no-such-branch", "--output=x", "-x"):
        status, said = run(capsys, f"--against={against}")
        assert (status, "neither a git revision nor a folder" in said) == (2, True)
    git(project, "rm", "-q", "--cached", "-r", "reports")
    git(project, "commit", "-qm", "none")
    status, said = run(capsys)
    assert (status, "nothing to compare with" in said) == (2, True)
    shutil.rmtree(project / "reports")
    status, said = run(capsys)
    assert (status, "`make repro` makes it" in said) == (2, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no scores.csv"),
        ("name,coco\nge,1\n", "no scores.csv"),
        ("variant,coco,coco\nge,1,2\n", "no scores.csv"),
        ("variant,coco\nge,1,2\n", ":2: 3 values where the heading has 2"),
        ("variant,coco\nge,nan\n", ":2: ge on coco: 'nan' is no percentage"),
        ("variant,coco\nge,many\n", "'many' is no percentage"),
        ("variant,coco\nge,101\n", "'101' is no percentage"),
        ("variant,coco\nge,1\nge,2\n", ":3: ge on coco: is there twice"),
        ("variant,seed,coco\nge,0,1\nge,1,2\nge,0,2\n", ":4: ge seed 0 on coco: is there twice"),
        ("<<<<<<< HEAD\nvariant,coco\n", "no scores.csv"),
    ],
)
def test_a_damaged_file_of_scores_is_named(text: str, reason: str) -> None:
    with pytest.raises(RegroupError, match=r"^x\.csv") as raised:
        read_scores(text, "x.csv")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "| a |\n| --- |\n", MOVED.format("perhaps"), "| a | b | c | d |\n| 1 |\n"]
)
def test_a_damaged_file_of_claims_is_named(text: str) -> None:
    with pytest.raises(RegroupError, match=r"^x\.md"):
        read_claims(text, "x.md")


def test_what_is_checked_in_can_be_read() -> None:
    tables = ROOT / "reports/mini/tables"
    assert read_scores((tables / "scores.csv").read_text(), "scores.csv")
    assert len(read_claims((tables / "what_moved.md").read_text(), "what_moved.md")) >= 30
