"""The cluster profiles with the real executor plugins, against stand-ins for the schedulers' commands."""

import json
from pathlib import Path

import pytest

from .fake_cluster import install, on_path
from .toy_project import Project

pytestmark = pytest.mark.slow


def calls(state: Path, command: str) -> list[str]:
    lines = [json.loads(line) for line in (state / "calls.jsonl").read_text().splitlines()]
    return [" ".join(line[1:]) for line in lines if line[0] == command]


def test_slurm(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs snakemake-executor-plugin-slurm")
    state = install(tmp_path / "slurm")
    project.environment = on_path(tmp_path / "slurm", project.environment)
    project.set_param("items: {a: 1, b: 20}")
    project.set_param("gpus: 2")
    lock = project.lock()
    soon = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
    project.snakemake("--workflow-profile", "workflow/profiles/slurm", *soon, "two_b")

    one, two = calls(state, "sbatch")
    assert "rule_one_b" in one
    for wanted in ("-p batch", "-A vision", "-t 60", "--mem 4000", "--cpus-per-task=2", "--gres=gpu:2"):
        assert f" {wanted} " in one
    # all the GPUs of a stage on one node, for one task, which starts a process for each
    assert " --nodes=1 " in one
    assert "--ntasks-per-gpu" not in one
    for wanted in ("-t 30", "--mem 2000", "--cpus-per-task=1"):
        assert f" {wanted} " in two
    assert "gpu" not in two.partition("--wrap")[0]
    runs = {run for kind, _, _, run in project.trace() if kind == "start"}
    assert len(runs) == 1
    assert "" not in runs
    assert project.worked() == ["one-b", "two-b"]
    assert project.lock() != lock
    assert "Data and pipelines are up to date" in project.dvc("repro", "two@b")
    assert project.worked() == []


def test_a_scheduler_with_a_submit_command(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    state = install(tmp_path / "sge")
    project.environment = on_path(tmp_path / "sge", project.environment)
    project.set_param("items: {a: 1, b: 20}")
    (project.root / "fail").write_text("two-b")
    profile = ["--workflow-profile", "workflow/profiles/generic", "--latency-wait", "5"]
    shown = project.snakemake(*profile, "two_b", check=False)
    one, two = calls(state, "qsub")
    assert "-pe smp 2 -l h_vmem=4000M,h_rt=0:60:0,gpu=0" in one
    assert "-pe smp 1 -l h_vmem=2000M,h_rt=0:30:0,gpu=0" in two
    assert project.worked() == ["one-b"]
    assert "data/mini/two-b.txt: picture 7 is missing; put it back" in shown
