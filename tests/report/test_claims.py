"""The thesis's claims: complete, borne out or not by its own numbers, checked on made-up runs of ours."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.report.checked import ClaimResult, WhatMoved
from regroup.report.claims import load_claims
from regroup.report.what_moved import format_what_moved, write_what_moved
from tests.thesis import check_claims, thesis, thesis_claims

WriteMetrics = Callable[..., Path]


def by_id(moved: WhatMoved) -> dict[str, ClaimResult]:
    return {result.claim.id: result for result in moved.results}


def holds(result: ClaimResult) -> tuple[int, int]:
    return sum(one.thesis.holds for one in result.comparisons), len(result.comparisons)


def named(moved: WhatMoved, folder: Path) -> tuple[set[str], str]:
    """What the .csv says of the runs behind comparisons, and the page as one line."""
    table, _, page, _ = write_what_moved(moved, folder)
    with table.open(newline="") as lines:
        runs = {line[side] for line in csv.DictReader(lines) for side in ("left_runs", "right_runs")}
    return runs, " ".join(page.read_text().split())


def test_every_table_with_results_of_its_own_has_a_claim() -> None:
    # table 7 prints table 6 again, and 33 is of the thesis's text
    assert {claim.table for claim in thesis_claims().claims} == set(range(1, 15)) - {7} | {33}


@pytest.mark.parametrize(
    ("claim", "counts", "verdict"),
    [
        # all differences are the claimed way, but the smallest (0.36) is within two runs' spread
        ("both_blocks_best", (7, 7), "cannot tell"),
        # PContext of four of the seven models is above the original's 22.39, by 0.28 at most:
        # as one of 21 chances that is within the spread
        ("entropy_falls_short_downstream", (17, 21), "cannot tell"),
        ("fine_tuning_costs_pascal", (2, 2), "agree"),
        # ADE20K of GE is 0.08 below LE's
        ("ge_beats_le_downstream", (2, 3), "cannot tell"),
        # 384 pixels alone gain 0.61
        ("each_alone_is_marginal", (1, 2), "cannot tell"),
        # 1.28 is less than a fifth of 24.3
        ("dino_input_fails", (1, 1), "agree"),
        # 51.79 against 49.80 on PVOC is not similar
        ("captions_alone_as_good", (3, 4), "disagree"),
        # ADE20K rises from 7.61 to 7.77
        ("resolution_costs_downstream", (2, 3), "cannot tell"),
        ("recipe_improves_coco", (1, 1), "agree"),
        ("other_depths_fail", (3, 3), "agree"),
        ("coco_setting", (7, 7), "agree"),
    ],
)
def test_the_thesis_on_its_own_claims(claim: str, counts: tuple[int, int], verdict: str) -> None:
    result = by_id(check_claims({}, profile="full", drawn=False))[claim]
    assert holds(result) == counts
    assert result.thesis == verdict
    assert result.ours == "missing"


def test_runs_that_fill_two_rows_count_once_in_the_spread(metrics: WriteMetrics) -> None:
    seeds = [metrics(f"t{k}", coco=30.0 + k) for k in range(3)]
    others = [metrics(f"g{k}", coco=30.0 + 3 * k) for k in range(2)]
    once = check_claims({10: {"ge": seeds, "le": others}}, profile="mini", drawn=True)
    twice = check_claims({9: {"se": seeds}, 10: {"ge": seeds, "le": others}}, profile="mini", drawn=True)
    assert once.spreads == twice.spreads
    assert [str(ref) for ref in twice.seeded] == ["table 9, row se", "table 10, row le"]


def test_how_far_seeds_move_a_broken_model_says_nothing_of_others(metrics: WriteMetrics) -> None:
    """Its small spread is judged by only where no other row has one."""
    seeds = [metrics(f"t{k}", coco=30.0 + k) for k in range(3)]
    failed = [metrics(f"b{k}", coco=2.0 + k / 1000, voc=1.0 + k) for k in range(3)]
    alone = check_claims({10: {"ge": seeds}}, profile="mini", drawn=True)
    both = check_claims({10: {"ge": seeds}, 13: {"blocks1_tokens64": failed}}, profile="mini", drawn=True)
    assert both.spreads["coco"] == alone.spreads["coco"]
    pooled = both.spreads["voc"].seeds
    assert pooled is not None
    assert (pooled.variance, pooled.freedom) == (1.0, 2)


def test_seeds_decide_between_agree_disagree_and_cannot_tell(metrics: WriteMetrics) -> None:
    seeds = [metrics(f"t{k}", coco=30 + k / 10, voc=40 + k / 10, context=10 + k / 10) for k in range(3)]
    runs = {
        11: {
            "original": [metrics("o", coco=20.0, voc=44.0, context=10.2)],
            "fine_tuning": seeds,
            "noise_free_ge": [metrics("n", coco=33.0, voc=41.0, context=10.0)],
        }
    }
    found = by_id(check_claims(runs, profile="mini", drawn=True))
    assert found["recipe_improves_coco"].ours == "agree"
    assert found["recipe_keeps_pascal"].ours == "disagree"
    keeps = {one.column: one.ours for one in found["recipe_keeps_pascal"].comparisons}
    # -3.0 points on PVOC refute it; -0.2, give or take t(2) x 0.1 = 0.43, do not settle a margin of 0.5
    assert (keeps["voc"].verdict, keeps["context"].verdict) == ("disagree", "cannot tell")
    assert keeps["context"].found is not None
    assert keeps["context"].found.half == pytest.approx(0.4303, abs=1e-3)
    assert found["noise_free_best"].ours == "missing"
    told = " ".join(format_what_moved(check_claims(runs, profile="mini", drawn=True)).split())
    assert "It comes from table 10, row fine_tuning; rows with one run are judged by it." in told


def test_without_seeds_two_models_cannot_be_told_apart(metrics: WriteMetrics) -> None:
    runs = {6: {"refined": [metrics("r", coco=31.0)], "fine_tuning": [metrics("f", coco=30.0)]}}
    moved = check_claims(runs, profile="mini", drawn=True)
    assert by_id(moved)["refined_labels_help"].ours == "cannot tell"
    assert "No row of ours has several seeds" in format_what_moved(moved)


def test_settings_of_one_checkpoint_are_compared_without_seeds(metrics: WriteMetrics) -> None:
    rows = {}
    for k, row in enumerate(("k5", "k10", "k15", "k25")):
        file = metrics(row, voc=50.0 - k if row != "k10" else 51.0)
        file.write_text(file.read_text().replace(f'"digest": "{row}"', '"digest": "pretrained"'))
        rows[row] = [file]
    assert by_id(check_claims({2: rows}, profile="mini", drawn=True))["ten_neighbours"].ours == "agree"


def test_an_experiment_given_for_one_table_serves_the_others(metrics: WriteMetrics) -> None:
    runs = {
        4: {"batch_256": [metrics(f"b{k}", coco=30.0 + k / 10) for k in range(2)]},
        13: {
            row: [metrics(row, coco=9.0)]
            for row in ("blocks1_tokens64", "blocks3_tokens8", "blocks3_tokens4")
        },
    }
    found = by_id(check_claims(runs, profile="mini", drawn=True))
    assert found["other_depths_fail"].ours == "agree"


def test_the_table_names_mini_fits_and_leaves_nothing_blank(metrics: WriteMetrics, tmp_path: Path) -> None:
    moved = check_claims({11: {"ge": [metrics("g", coco=30.0)]}}, profile="mini", drawn=True)
    text = format_what_moved(moved)
    assert max(map(len, text.splitlines())) <= 100
    assert "What moved (mini)" in text
    paths = write_what_moved(moved, tmp_path / "a")
    again = write_what_moved(moved, tmp_path / "b")
    assert [path.name for path in paths] == [f"what_moved.{kind}" for kind in ("csv", "json", "md", "tex")]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    with paths[0].open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert all(all(row.values()) for row in rows)
    assert {row["profile"] for row in rows} == {"mini"}
    (one,) = [row for row in rows if row["claim"] == "recipe_improves_coco"]
    assert (one["thesis_difference"], one["thesis_verdict"]) == ("+4.38", "agree")
    assert (one["ours_difference"], one["ours_verdict"]) == ("missing", "missing")
    assert "ours (mini)" in paths[2].read_text()
    assert r"by 18\% in the thesis" in paths[3].read_text()


def test_a_claim_names_its_runs_and_those_it_waits_for(metrics: WriteMetrics, tmp_path: Path) -> None:
    """The .csv lists seeds, the page counts them."""
    first = tmp_path / "metrics/segmentation/tuned/metrics.json"
    further = first.parent / "seeds/0/metrics.json"
    runs = {11: {"original": [metrics("start", coco=24.0)], "fine_tuning": [first, further]}}
    others = {"start", "nothing fills it", "missing"}  # the last: of images
    listed, page = named(check_claims(runs, profile="mini", drawn=True), tmp_path)
    assert listed == {"tuned (not there)", *others}
    assert "| tuned (not there); nothing fills it |" in page
    further.parent.mkdir(parents=True)
    of_seed_0 = metrics("tuned", seed=0, coco=25.0).read_text()
    further.write_text(of_seed_0.replace('"digest": "tuned"', '"digest": "other weights"'))
    metrics("tuned", seed=123, coco=25.0)
    listed, page = named(check_claims(runs, profile="mini", drawn=True), tmp_path)
    assert listed == {"tuned (seeds 0, 123)", *others}
    assert "| tuned ×2; nothing fills it |" in page


def test_runs_of_another_profile_and_unknown_rows_are_refused(metrics: WriteMetrics) -> None:
    with pytest.raises(RegroupError, match="made by profile 'mini'"):
        check_claims({11: {"ge": [metrics("g", coco=30.0)]}}, profile="full", drawn=False)
    with pytest.raises(RegroupError, match="table 11: no row is called 'gee'"):
        check_claims({11: {"gee": []}}, profile="full", drawn=False)


CLAIM = "id: c, table: 11, section: '1', text: T, relation: higher"
GE, COCO = "rows: [ge], to: [original]", "columns: [coco]"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (f"rows: [ge], to: [original, gee], {COCO}", "claim c: gee: table 11: no row is called 'gee'"),
        (f"rows: [ge], to: [90/ge], {COCO}", "claim c: 90/ge: there is no table 90"),
        (f"rows: [ge], to: [x/ge], {COCO}", "claim c: x/ge: "),
        (f"rows: [ge], to: [2/k5], {COCO}", "claim c: table 2 has no coco"),
        (f"rows: [ge], too: [original], {COCO}", "did you mean `to`"),
        (f"{GE}, {COCO}, to_column: birds", "table 11 has no birds"),
        (f"{GE}, {COCO}, factor: 2", "factor: Input should be less than or equal to 1"),
        (GE, "columns: name some"),
        (f"{GE}, {COCO}, measure: {{kind: late}}", "`kind` is early, class_iou or images"),
        (f"{GE}, {COCO}, measure: {{kind: early, share: 1.5}}", "less than or equal to 1"),
        (f"{GE}, columns: [retrieval/coco], measure: {{kind: early, share: 0.3}}", "is of datasets alone"),
        (f"{GE}, {COCO}, measure: {{kind: class_iou, classes: []}}", "at least 1 item"),
        (f"{GE}, {COCO}, measure: {{kind: images, of: affinity_spread}}", "columns: name some"),
        ("rows: [dino], to: [ge], measure: {kind: images, of: affinity_spread}", "has dino and model"),
    ],
)
def test_faults_in_a_claims_file_are_named(tmp_path: Path, claim: str, message: str) -> None:
    file = tmp_path / "claims.yaml"
    file.write_text(f"margin: 0.5\nclaims:\n  - {{{CLAIM}, {claim}}}\n")
    with pytest.raises(RegroupError) as error:
        load_claims(file, reference=thesis())
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)
