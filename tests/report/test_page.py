"""The report's page as a file: what is in it, what is not, and that it is the same each time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.journal.last_run import LastRun, write_last_run
from regroup.params import load_params
from regroup.report.page.build import FACTS, build_page
from regroup.report.page.curves import read_curve
from regroup.report.page.pictures import read_pictures
from regroup.report.page.pipeline import draw
from regroup.report.settings import PageParams
from regroup.run_facts import collapse, duration, write_index
from regroup.safe_dvc.graph import read_graph
from regroup.variants_file import load_variants
from tests.thesis import HERE, thesis

from .page_project import ODD, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(project: Path) -> str:
    params = load_params(project / "params.yaml")
    return build_page(
        params.layout.report,
        profile=params.name,
        drawn=params.drawn,
        settings=params.page,
        params_file=params.params_file,
        titles={"ge-384": "Group entropy", "original": "Original"},
        reference=thesis(),
    )


def test_the_page_needs_nothing_but_itself_and_says_mini(project: Path) -> None:
    page = build(project)
    outside = re.findall(r'\b(?:src|href|srcset|action|poster)="([^"]+)', page)
    assert not re.search(r"@import|url\((?!#)", page)
    assert outside
    # anchors, data in the page, and the files of the report beside it
    beside = ("#", "data:", "tables/", "table_data/", "figures/")
    assert not [link for link in outside if not link.startswith(beside)]
    files = {link for link in outside if link.startswith("table")}
    assert not [link for link in files if not (project / "reports/mini" / link).is_file()]
    assert "small model on small drawn images" in page
    assert "OpenMoji" in page
    assert " figures</li>" in page
    assert "Figures 12, 13 of the thesis." in page


def test_the_same_reports_give_the_same_bytes_and_nothing_of_the_machine(project: Path) -> None:
    first = build(project)
    assert build(project) == first
    assert FACTS in first
    assert str(project) not in first


def test_text_from_files_is_text(project: Path) -> None:
    page = build(project)
    assert ODD not in page
    assert "&lt;script&gt;alert" in page


def test_what_is_missing_is_said(project: Path) -> None:
    page = build(project)
    assert page.count('class="number missing"') >= 3 * 2 * 3  # three rows, gain and score, but for two scores
    for file in (project / "reports/mini/table_data").iterdir():
        file.unlink()
    assert "No table has been built: missing." in build(project)


def test_large_pictures_shrink_and_keep_their_shape(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 2500, 3), dtype=np.uint8)
    (tmp_path / "figures").mkdir()
    Image.fromarray(noise).save(tmp_path / "figures" / "noise.png")
    Image.fromarray(noise[:9, :16]).save(tmp_path / "figures" / "small_one.png")
    noise_picture, small = read_pictures(tmp_path, PageParams())
    assert (noise_picture.width, noise_picture.height) == (2000, 240)
    assert noise_picture.data.startswith("data:image/webp;base64,")
    assert len(noise_picture.data) < (tmp_path / "figures" / "noise.png").stat().st_size / 2
    assert small.data.startswith("data:image/png;base64,")
    assert (small.title, small.thesis) == ("Small one", ())


@pytest.mark.parametrize("content", ["[1]", '{"thesis": 7}', '{"thesis": ["seven"]}'])
def test_a_sidecar_that_means_nothing_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "figures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "figures" / "a.png")
    (tmp_path / "figures" / "a.json").write_text(content)
    with pytest.raises(RegroupError, match=r"a\.json: not of the form"):
        read_pictures(tmp_path, PageParams())


def test_a_curve_has_its_ends_and_leaves_gaps_out(tmp_path: Path) -> None:
    file = tmp_path / "ge.csv"
    file.write_text("step,loss,contrastive\n5,4.0,1\n10,2.0,1\n15,nan,1\n20,1.0,1\n")
    later = tmp_path / "validation.csv"
    later.write_text("step,val_coco,val_voc\n5,,\n10,20.5,40\n20,22.5,41\n")
    curve = read_curve("ge", "GE", file, [[later]])
    assert curve is not None
    loss, scores = curve.charts
    assert [line.name for line in loss.lines] == ["loss"]
    assert (loss.low, loss.high, loss.steps) == (1.0, 4.0, 20)
    assert loss.lines[0].path == "M0.0 0.0L80.0 64.0L240.0 96.0"
    coco, voc = scores.lines
    assert (coco.name, coco.first, coco.last, voc.name) == ("coco", 20.5, 22.5, "voc")
    assert scores.unit == "mIoU, %"
    file.write_text("step,loss\n")
    assert read_curve("ge", "GE", file, []) is None
    later.write_text("step,val_coco,val_voc\n0,20.5,40\n")
    assert read_curve("original", "Original", None, [[later]]) is None  # nothing was trained
    file.write_text("step,loss\n5,four\n")
    with pytest.raises(RegroupError, match=r"ge\.csv: not a learning curve"):
        read_curve("ge", "GE", file, [])


def test_a_curve_of_several_seeds_is_their_mean(tmp_path: Path) -> None:
    losses = tmp_path / "ge.csv"
    losses.write_text("seed,step,loss\n123,5,4\n123,10,2\n0,5,2\n0,10,1\n")
    scores = [tmp_path / f"{seed}.csv" for seed in (123, 0)]
    for file, last in zip(scores, (20, 23), strict=True):
        file.write_text(f"step,val_coco\n5,18\n10,{last}\n")
    curve = read_curve("ge", "GE", losses, [scores])
    assert curve is not None
    loss, coco = curve.charts
    assert (loss.unit, loss.lines[0].first, loss.lines[0].last) == ("loss, mean of 2 seeds", 3.0, 1.5)
    assert (coco.unit, coco.lines[0].first, coco.lines[0].last) == ("mIoU, %, mean of 2 seeds", 18.0, 21.5)


def test_the_pipeline_is_drawn_from_dvc_yaml() -> None:
    root = Path(__file__).parents[2]
    found = read_graph([root / "pretrain/dvc.yaml", root / "dvc.yaml"], root=root)
    variants = load_variants(HERE.variants)
    stages = {stage.name: stage for stage in collapse(found)}
    assert (stages["finetune"].count, stages["tables"].count) == (len(variants), None)
    assert stages["shards"].reads == ("source",)
    assert {"pretrain", "shards", "nouns"} <= set(stages["finetune"].reads)
    assert stages["tasks"].reads == ("source",)
    assert set(stages["evaluate"].reads) == {"resolve", "tasks", "finetune"}
    assert stages["evaluate"].count == len(variants)
    assert {"evaluate"} <= set(stages["tables"].reads) & set(stages["learning"].reads)
    assert {"tables", "figures", "finetune"} <= set(stages["page"].reads)
    assert stages["pretrain"].frozen
    assert stages["finetune"].command == "python stages/finetune.py --params 'params.yaml' --item 'ITEM'"

    drawing = draw(list(stages.values()))
    at = {placed.stage.name: placed for placed in drawing.boxes}
    for stage in stages.values():
        assert all(at[other].y < at[stage.name].y for other in stage.reads)
    corners = [(placed.x, placed.y) for placed in drawing.boxes]
    assert len(set(corners)) == len(stages)
    assert all(0 <= x <= drawing.width - 132 and 0 <= y <= drawing.height - 40 for x, y in corners)
    assert len(drawing.edges) == sum(len(stage.reads) for stage in stages.values())


def test_stages_that_wait_for_each_other_are_named(project: Path) -> None:
    file = project / "dvc.yaml"
    file.write_text("stages:\n  a: {cmd: x, deps: [q], outs: [p]}\n  b: {cmd: x, deps: [p], outs: [q]}\n")
    with pytest.raises(RegroupError, match=r"dvc.yaml: .*in stages: (a, b|b, a)"):
        read_graph([file])
    # no item waits for itself, but there is no order of the boxes
    file.write_text(
        "stages:\n  a:\n    matrix: {k: [1, 2]}\n    cmd: x '${item.k}'\n    deps: ['b${item.k}']\n"
        "    outs: ['a${item.k}']\n  b:\n    cmd: y\n    deps: [a2]\n    outs: [b1]\n"
    )
    boxes = collapse(read_graph([file]))
    assert [(box.name, box.count, box.command) for box in boxes] == [("a", 2, "x 'ITEM'"), ("b", None, "y")]
    with pytest.raises(RegroupError, match="a -> b -> a"):
        draw(boxes)


def test_the_index_adds_the_facts_of_the_run_to_the_page(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = project / "reports/mini/page.html"
    page.write_text(build(project))
    before = page.read_bytes()
    write_last_run(
        project, "mini", LastRun("finetune", "ge-384", 0, 95_000, "FINISHED", "0123456789ab-dirty")
    )
    write_last_run(project, "full", LastRun("nouns", "", 0, 1, "FINISHED", "other profile"))
    with pytest.raises(SystemExit) as done:
        main(["page"])
    assert done.value.code == 0
    assert capsys.readouterr().out == "reports/mini/index.html\n"
    index = (project / "reports/mini/index.html").read_text()
    assert page.read_bytes() == before
    assert "1 min 35 s" in index
    assert "finetune@ge-384" in index
    assert "other profile" not in index
    assert "0cc175b9c0f1b6a831c399e269772661" in index  # from dvc.lock
    assert "finetune × " in index
    assert FACTS not in index


def test_without_a_page_the_command_says_what_to_run(project: Path) -> None:
    with pytest.raises(RegroupError, match="no page yet; run `dvc repro`"):
        write_index(load_params(project / "params.yaml"))
    (project / "reports/mini/page.html").write_text("<p>old")
    with pytest.raises(RegroupError, match="run the stage `page` again"):
        write_index(load_params(project / "params.yaml"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_grid_file_that_is_none_is_named(project: Path) -> None:
    (project / "reports/mini/table_data/table11.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(RegroupError, match=r"table11\.json: heading: Field required"):
        build(project)


def test_claims_have_a_badge_and_behind_it_what_it_hangs_on(project: Path) -> None:
    page = build(project)
    assert '<span class="badge agree">agree</span> 1 of 1: +4.38 ± 0.50 (1 seed, pooled spread)</td>' in page
    assert "<p>Of 45 claims, by our numbers: " in page
    assert page.index("<p>Of 45 claims") < page.index('<table class="claims">')


def test_only_what_chance_does_not_explain_is_coloured(project: Path) -> None:
    assert 'class="number up">+21.50</td>' in build(project)
    file = project / "reports/mini/table_data/table11.json"
    file.write_text(
        file.read_text().replace('"+21.50"', '"+0.39 ± 1.58"').replace('"-3.75"', '"-3.75 ± 1.58"')
    )
    page = build(project)
    assert 'class="number ">+0.39 ± 1.58</td>' in page
    assert 'class="number down">-3.75 ± 1.58</td>' in page
