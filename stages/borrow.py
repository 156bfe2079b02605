"""One run of another study: its checkpoint and curve as they are, to be scored as this study's own runs."""

import shutil

from regroup.errors import RegroupError
from regroup.io import atomic_path
from regroup.params import ProfilePaths
from regroup.stage import Stage, run
from regroup.study import params_of, results_of


def main(stage: Stage) -> None:
    """Copy the run: on disk it is there twice, in DVC's cache once."""
    one, own, profile = stage.borrowed()[stage.key], stage.layout, stage.params.data
    lender = ProfilePaths(results_of(one.study, profile))
    source, out = lender.run(one.variant), own.run(stage.key)
    copies = {path: out / path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()}
    copies[lender.curves / f"{one.variant}.csv"] = own.curves / f"{stage.key}.csv"
    for path in (source, *copies):
        if not path.exists():
            pipeline = params_of(one.study, profile).with_name("dvc.yaml")
            raise RegroupError(f"{path}: not there; `dvc repro {pipeline}:finetune@{one.variant}` makes it")
    with stage.tracked(one, inputs=[source], outputs=[out, own.curves / f"{stage.key}.csv"]):
        shutil.rmtree(out, ignore_errors=True)
        for path, copy in copies.items():
            with atomic_path(copy) as temporary:
                shutil.copyfile(path, temporary)


if __name__ == "__main__":
    run(main)
