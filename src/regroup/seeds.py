"""The seeds of a variant's runs, and how its run folder says which there are.

The run of the first seed lies where a variant's only run does, every further one below `seeds/<seed>`, with
the same content. Metrics and states are laid out likewise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.io import read_json, write_text

FIRST_SEED = 123
"""Of every run that names none: the study's."""
FILE = "seeds.json"
"""In a variant's run folder: its seeds, the first of them first; not there where nothing was trained."""

_FURTHER = "seeds"


def all_seeds(own: Sequence[int], at_least: int | None) -> tuple[int, ...]:
    """A variant's own seeds, then as many further ones as the profile asks for.

    These come from 123, 0, 100, 200, 300 and so on, less those that the variant has: first the study's own,
    so that variants have as many seeds in common as can be.

    Args:
        own: those that the variant lists.
        at_least: `finetune.seeds` of the profile; None: no more than the variant's own.
    """
    found = list(own)
    further = chain([FIRST_SEED], count(0, 100))
    while len(found) < (at_least or 0):
        seed = next(further)
        if seed not in found:
            found.append(seed)
    return tuple(found)


def seed_folder(folder: Path, seeds: Sequence[int | None], seed: int | None) -> Path:
    """Where what belongs to one of a variant's seeds lies: the first's in the variant's own folder."""
    return folder if seed == seeds[0] else folder / _FURTHER / str(seed)


def of_seed(values: Mapping[str, float], seeds: Sequence[int | None], seed: int | None) -> dict[str, float]:
    """Metrics by names that tell the seeds of one stage run apart: the first's are plain."""
    return dict(values) if seed == seeds[0] else {f"seed-{seed}/{name}": one for name, one in values.items()}


def write_seeds(run: Path, seeds: Sequence[int]) -> None:
    """Say in a run folder which seeds it has the runs of."""
    write_text(run / FILE, json.dumps({"seeds": list(seeds)}) + "\n")


def read_seeds(run: Path) -> Mapping[int | None, Path]:
    """The runs in a variant's run folder, by their seed, the first first; None stands for one without.

    Raises:
        RegroupError: the file that says so is malformed, or a run that it names is not there.
    """
    path = run / FILE
    if not path.exists():
        return {None: run}
    values = read_json(path)
    seeds: Any = values.get("seeds") if isinstance(values, dict) else None
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise RegroupError(f"{path}: not a list of seeds; run the stage `finetune` again")
    found = {seed: seed_folder(run, seeds, seed) for seed in seeds}
    for folder in found.values():
        if not folder.is_dir():
            raise RegroupError(f"{path}: names a run that is not there, {folder}; run `finetune` again")
    return found


def further_seeds(folder: Path) -> Iterator[tuple[int, Path]]:
    """The folders of further seeds in a variant's folder, whatever it holds, by seed."""
    found = [path for path in (folder / _FURTHER).glob("*") if is_further(path)]
    yield from sorted((int(path.name), path) for path in found)


def is_further(folder: Path) -> bool:
    """Whether a folder is that of a further seed."""
    return folder.parent.name == _FURTHER and folder.name.isdecimal()
