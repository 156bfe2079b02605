"""Fine-tuning runs killed at random times and started again: do they end in the same bytes?

    python benchmarks/kills.py [--kills 20] [--variants ge noise-free-ge-384 blocks-3] [--max-steps 60]

Needs the data of the mini profile (`dvc repro shards nouns`). Each variant runs once undisturbed; then again
and again, killed with SIGKILL at a time drawn from the length of that run (start-up and writing of outputs
are in it), and started anew until it ends by itself. Compared are the digests of every file that the stage
wrote. Exit status 1 if any differs.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import Result, record

ROOT = Path(__file__).resolve().parents[1]


def make_project(folder: Path, max_steps: int) -> None:
    """A folder in which the stage runs as in the project, with states saved often."""
    text = (ROOT / "params.yaml").read_text()
    changes = {
        "max_steps: null": f"max_steps: {max_steps}",
        "save_every: 50": "save_every: 7",
        "enabled: true": "enabled: false",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "params.yaml").write_text(text)
    (folder / "studies/thesis").mkdir(parents=True)
    variants = "studies/thesis/variants.yaml"
    (folder / variants).write_text((ROOT / variants).read_text())
    (folder / "pretrain").symlink_to(ROOT / "pretrain")
    (folder / "data/mini").mkdir(parents=True)
    for made in sorted((ROOT / "data/mini").iterdir()):
        if made.name not in ("variants", "dino.json"):  # the scripts write these anew
            (folder / "data/mini" / made.name).symlink_to(made)


def launch(folder: Path, variant: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "stages/finetune.py"), "--params", "params.yaml", "--item", variant]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(run: subprocess.Popen[bytes]) -> None:
    _, errors = run.communicate()
    if run.returncode:
        raise SystemExit(errors.decode())


def written(folder: Path) -> dict[str, str]:
    """Digest of every file below the stage's outputs, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("runs", "reports")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }


def disturb(folder: Path, variant: str, length: float, kills: int, rng: random.Random) -> list[float]:
    """Kill the variant's runs so many times, let each end, and return when the kills were, in seconds."""
    times: list[float] = []
    while len(times) < kills:
        run = launch(folder, variant)
        wait = rng.uniform(0.0, length)
        try:
            run.wait(wait)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            times.append(wait)
        else:
            finish(run)
    finish(launch(folder, variant))
    return times


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--variants", nargs="+", default=["ge", "noise-free-ge-384", "blocks-3"])
    parser.add_argument("--max-steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng = random.Random(arguments.seed)
    same = kills = 0
    for number, variant in enumerate(arguments.variants):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            folders = Path(one), Path(two)
            for folder in folders:
                make_project(folder, arguments.max_steps)
            began = time.monotonic()
            finish(launch(folders[0], variant))
            length = time.monotonic() - began
            share = len(range(number, arguments.kills, len(arguments.variants)))
            times = disturb(folders[1], variant, length, share, rng)
            undisturbed, disturbed = (written(folder) for folder in folders)
            differing = [
                name for name in undisturbed | disturbed if undisturbed.get(name) != disturbed.get(name)
            ]
            equal = not differing
            at = ", ".join(f"{when:.1f}" for when in times)
            print(f"{variant}: {length:.1f} s undisturbed; killed at {at} s; same bytes: {equal}", flush=True)
            print("\n".join(f"  differs: {name}" for name in differing), end="\n" * bool(differing))
            kills, same = kills + len(times), same + equal
    record([Result("fine-tuning killed and started again: variants in the same bytes", "variants", same)])
    print(f"{kills} kills, {same} of {len(arguments.variants)} variants end in the same bytes")
    return int(same != len(arguments.variants))


if __name__ == "__main__":
    sys.exit(main())
