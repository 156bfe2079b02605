"""What every stage script shares: arguments, typed parameters, threads, tracking, readable errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError, readable_errors
from regroup.journal import StageRun, track_stage
from regroup.params import Params, ProfilePaths, Resources, load_params
from regroup.profile import follow_profile
from regroup.resolved import borrowed_backbones, write_resolved
from regroup.scoring.resolve import write_tasks
from regroup.settings import Settings
from regroup.study import Borrowed, load_borrowed
from regroup.tasks import item_name
from regroup.variants import Variant
from regroup.variants_file import load_scored, load_variants


@dataclass(frozen=True)
class Stage:
    """One stage at work: its name, its parameters, and the item of a `foreach` or `matrix` stage."""

    name: str
    params: Params
    item: str | None

    @property
    def layout(self) -> ProfilePaths:
        """Where the profile's files lie."""
        return self.params.layout

    @property
    def resources(self) -> Resources:
        """What this stage may use.

        Raises:
            RegroupError: the profile does not say.
        """
        for name, resources in self.params.resources.items():
            if name == self.name:
                return resources
        raise RegroupError(f"{self.params.params_file}: resources.{self.name}: this key is missing")

    @property
    def key(self) -> str:
        """The item of a `foreach` stage.

        Raises:
            RegroupError: the script was started without `--item`.
        """
        if self.item is None:
            raise RegroupError(
                f"stages/{self.name}.py: --item is missing; see `dvc stage list` for the items"
            )
        return self.item

    def variants(self) -> Mapping[str, Variant]:
        """Every variant of the profile."""
        return load_variants(self.params.variants_file)

    def borrowed(self) -> Mapping[str, Borrowed]:
        """Every run that a study has of another one."""
        return load_borrowed(self.params.variants_file)

    def scored(self) -> Mapping[str, Variant]:
        """Every run that is scored: the variants, then those that are borrowed."""
        return load_scored(self.params.variants_file, self.params.data)

    def variant(self) -> Variant:
        """The variant that `--item` names.

        Raises:
            RegroupError: there is no such variant.
        """
        variants = self.variants()
        if self.key not in variants:
            known = ", ".join(variants)
            raise RegroupError(f"{self.params.variants_file}: no variant `{self.key}`; known: {known}")
        return variants[self.key]

    def tracked(
        self, *settings: Settings, inputs: Sequence[Path], outputs: Sequence[Path]
    ) -> AbstractContextManager[StageRun]:
        """Record the work of the `with` block as one MLflow run (a no-op when tracking is off)."""
        if int(os.environ.get("RANK", "0")) > 0:  # the first of several processes speaks for all
            return nullcontext(StageRun(None))
        values = {type(value).__name__: value.model_dump(mode="json") for value in settings}
        name = self.name if self.item is None else f"{self.name}@{self.item}"
        return track_stage(
            name,
            profile=self.params.name,
            root=Path(),
            params=values,
            inputs=inputs,
            outputs=outputs,
            settings=self.params.tracking,
        )


def run(main: Callable[[Stage], None], argv: Sequence[str] | None = None) -> None:
    """Run a stage script: parse the arguments, load the parameters, fix the threads, do the work.

    Bad input ends with one readable message on standard error and exit status 2.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog=f"stages/{name}.py",
        description=sys.modules["__main__"].__doc__,
        allow_abbrev=False,
        epilog=f"Normally started by `dvc repro {name}`, which tracks what it reads and writes.",
    )
    parser.add_argument("--params", type=Path, required=True, help="a profile's parameters: params.yaml")
    parser.add_argument("--item", help="which item of a foreach stage, e.g. a variant's or a source's name")
    # Nothing below may look anything up on a hub or report home.
    os.environ.update(HF_HUB_OFFLINE="1", DO_NOT_TRACK="1", MLFLOW_DISABLE_TELEMETRY="true")
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
    with readable_errors(parser.prog):
        arguments = parser.parse_args(argv)
        if STARTED_BY_DVC not in os.environ:  # which has seen to it
            follow_profile(arguments.params)
        stage = Stage(name, load_params(arguments.params), arguments.item)
        check_item(stage)
        if name in READ_RESOLVED and STARTED_BY_DVC not in os.environ:
            # by hand there is no stage before this one that would have written what is true now
            write_resolved(stage.params, stage.variants(), stage.layout, borrowed_backbones(stage.params))
        if name in READ_TASKS and STARTED_BY_DVC not in os.environ:
            write_tasks(stage.params.evaluate, stage.layout.manifest, stage.layout.tasks)
        fix_threads(stage.resources.threads)
        main(stage)


READ_RESOLVED = frozenset({"dino", "finetune"})
"""Stages whose settings are in files of the stage `resolve`."""
READ_TASKS = frozenset({"evaluate"})
"""Stages whose settings are in files of the stage `tasks`."""
STARTED_BY_DVC = "DVC_STAGE"
"""In the environment of the commands that DVC starts; it has seen to the stages before."""


ITEMS: Mapping[str, Callable[[Stage], Iterable[str]]] = {
    "pretrain": lambda stage: stage.params.pretrain,
    "source": lambda stage: map(str, stage.params.made_sources),
    "finetune": lambda stage: stage.variants(),
    "borrow": lambda stage: stage.borrowed(),
    "evaluate": lambda stage: [
        item_name(task, variant) for task in stage.params.evaluate for variant in stage.scored()
    ],
    "dissect": lambda stage: stage.params.needed(stage.params.dissect, "dissect").variants,
}
"""What `--item` may be, for each stage that dvc.yaml declares with `foreach` or `matrix`."""


def check_item(stage: Stage) -> None:
    """Refuse an item that the stage does not have.

    Raises:
        RegroupError: there is no such item, none is given, or the stage has no items.
    """
    if stage.name not in ITEMS:
        if stage.item is not None:
            raise RegroupError(f"--item {stage.item}: the stage `{stage.name}` has no items; leave it out")
        return
    known = list(ITEMS[stage.name](stage))
    if stage.key not in known:
        raise RegroupError(
            f"--item {stage.item}: no item of the stage `{stage.name}` in this profile; "
            f"known: {', '.join(known)}"
        )


def fix_threads(count: int) -> None:
    """Use the stage's own number of threads, not the machine's: sums come out in the same order."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
        use_deterministic_algorithms(True)


def use_deterministic_algorithms(choice: bool) -> None:
    """Whether torch takes only algorithms that give the same bytes; it warns where there is none."""
    import torch

    if choice:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # not `torch.use_deterministic_algorithms`: it would import all of inductor, a second of every stage
    torch.set_deterministic_debug_mode("warn" if choice else "default")
