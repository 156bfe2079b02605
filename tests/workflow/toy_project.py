"""A small DVC project to schedule: source -> one@a,b -> two@a,b -> join, and a frozen stage beside them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]

PARAMS = """\
name: {name}
root: {root}
params_file: {params_file}
seconds: 0
items: {{a: 1, b: 2}}
gpus: 0
"""

PIPELINE = """\
stages:
  source:
    wdir: ${root}
    cmd: python work.py 0 data/${name}/source.txt source
    deps:
    - work.py
    outs:
    - data/${name}/source.txt
  frozen:
    frozen: true
    wdir: ${root}
    cmd: python work.py 0 data/${name}/frozen.txt frozen
    outs:
    - data/${name}/frozen.txt:
        cache: false
  one:
    foreach: ${items}
    do:
      wdir: ${root}
      cmd: python work.py ${seconds} data/${name}/one-${key}.txt ${item} data/${name}/source.txt
      deps:
      - work.py
      - data/${name}/source.txt
      params:
      - ${params_file}:
        - items.${key}
      outs:
      - data/${name}/one-${key}.txt
      meta:
        resources:
          threads: 2
          mem_mb: 4000
          runtime: 60
          gpus: ${gpus}
  two:
    foreach: ${items}
    do:
      wdir: ${root}
      cmd: python work.py ${seconds} data/${name}/two-${key}.txt ${item} data/${name}/one-${key}.txt
      deps:
      - work.py
      - data/${name}/frozen.txt
      - data/${name}/one-${key}.txt
      outs:
      - data/${name}/two-${key}.txt
  join:
    wdir: ${root}
    cmd: python work.py 0 data/${name}/join.txt all data/${name}/two-a.txt data/${name}/two-b.txt
    deps:
    - work.py
    - data/${name}/two-a.txt
    - data/${name}/two-b.txt
    outs:
    - data/${name}/join.txt
"""

WORK = """\
import os, sys, time
from pathlib import Path
seconds, out, text, *inputs = sys.argv[1:]
start = time.time()
if Path("fail").exists() and Path("fail").read_text() in out:
    sys.exit(f"{out}: picture 7 is missing; put it back")
with open("trace.txt", "a") as trace:
    trace.write(f"start {out} {start} {os.environ.get('REGROUP_PIPELINE_RUN', '')}\\n")
time.sleep(float(seconds))
Path(out).write_text(text + "\\n" + "".join(Path(name).read_text() for name in sorted(inputs)))
with open("trace.txt", "a") as trace:
    trace.write(f"end {out} {time.time()} -\\n")
"""


@dataclass
class Project:
    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """A Python module's command, with what it shows on its `stdout`."""
        usual = {"cwd": self.root, "env": self.environment, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, "-m", *command], stderr=subprocess.STDOUT, **{**usual, **options}
        )

    def run(self, *command: str, check: bool = True) -> str:
        with self.start(*command) as run:
            shown = run.communicate()[0]
        assert not check or run.returncode == 0, shown
        return shown

    def run_twice_at_once(self, *command: str) -> list[str]:
        """What two runs show that are started at the same time and both succeed."""
        runs = [self.start(*command) for _ in range(2)]
        shown = [run.communicate()[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], shown
        return shown

    def dvc(self, *arguments: str, check: bool = True) -> str:
        """This environment's `dvc`."""
        return self.run("regroup.safe_dvc", *arguments, check=check)

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        return self.run("snakemake", *arguments, check=check)

    def set_param(self, line: str, profile: str = ".") -> None:
        """Replace the top-level line of params.yaml that sets the same key."""
        path = self.root / profile / "params.yaml"
        key = line.split(":")[0]
        lines = [line if old.startswith(f"{key}:") else old for old in path.read_text().splitlines()]
        path.write_text("\n".join(lines) + "\n")

    def trace(self) -> list[tuple[str, str, float, str]]:
        """What the stages' commands did: start or end, output, time, name of the pipeline run."""
        lines = (self.root / "trace.txt").read_text().splitlines()
        return [(kind, Path(out).stem, float(when), run) for kind, out, when, run in map(split, lines)]

    def working(self) -> list[int]:
        """Processes that are at a stage's command now (those nobody reaped are not)."""
        here = str(self.root.resolve())
        found = psutil.process_iter(["cwd", "cmdline", "status"])
        return [
            process.pid
            for process in found
            if process.info["cwd"] == here
            and "work.py" in (process.info["cmdline"] or [])
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def worked(self) -> list[str]:
        """Outputs that were made since the last call, sorted."""
        if not (self.root / "trace.txt").exists():
            return []
        made = sorted(out for kind, out, _, _ in self.trace() if kind == "end")
        (self.root / "trace.txt").unlink()
        return made

    def forget(self) -> None:
        """Remove every output and DVC's cache; dvc.lock stays."""
        shutil.rmtree(self.root / ".dvc/cache", ignore_errors=True)
        self.lose_outputs()

    def lose_outputs(self) -> None:
        """Remove every output but the frozen stage's."""
        for path in (self.root / "data/mini").glob("*.txt"):
            if path.name != "frozen.txt":
                path.unlink()

    def outputs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.root / "data/mini").glob("*.txt"))}

    def lock(self) -> bytes:
        return (self.root / "dvc.lock").read_bytes()


def split(line: str) -> list[str]:
    return (line + " ").split(" ")[:4]


def everything(items: str = "ab") -> list[str]:
    """All outputs that stages make, sorted."""
    return sorted(["source", "join", *(f"{kind}-{item}" for kind in ("one", "two") for item in items)])


def user_environment() -> dict[str, str]:
    """A user's shell: this environment's tools on the path, no traces of a build server or of this run."""
    environment = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("REGROUP", "MLFLOW", "DVC", "SNAKEMAKE", "CI", "SLURM", "PYTEST"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return environment
