"""How far a zero-shot set looks from the captions' images, and what fine-tuning does to it there.

Draws the training splits of VOC and Context in looks between that of the pretraining corpus (0) and that of
COCO (1), in hue and paleness alone, and scores checkpoints on each:

    python studies/drift/look.py
    python studies/drift/look.py --checkpoint original --checkpoint refined-384 --positions 0 0.5 1

The table goes to standard output and to `out/look/<profile>.csv`. No validation image is looked at.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

from regroup.backbones import load_checkpoint
from regroup.commands.arguments import number, path, text
from regroup.errors import RegroupError, readable_errors
from regroup.io import write_text
from regroup.params import Params, ProfilePaths, load_params
from regroup.segmentation.evaluation import evaluate_all
from regroup.sources.mini.drawn import draw_dataset
from regroup.sources.settings import Style, WorldParams

SETS = {"voc": "voc12", "context": "context"}
"""Dataset of the evaluation, and the source that it is drawn as."""
DEFAULT = ("original", "vanilla", "refined", "ge", "refined-384", "ge-384", "noise-free-ge-384")


def main() -> None:
    """Draw, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=path, default=Path("params.yaml"))
    parser.add_argument(
        "--checkpoint", action="append", type=text, metavar="VARIANT", help="(the rows of the study)"
    )
    parser.add_argument("--positions", nargs="+", type=number(0, 1), default=[0, 0.25, 0.5, 0.75, 1])
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    if not params.drawn:
        raise RegroupError(f"{arguments.params}: its data is not drawn, so it has no look to change")
    write_table(params, arguments.checkpoint or list(DEFAULT), arguments.positions)


def between(world: WorldParams, own: Style, position: float) -> Style:
    """A dataset's own style with the hue and the paleness of a place between pretraining and COCO."""
    start, end = world.web_style, world.coco_style
    return own.model_copy(
        update={
            "hue": start.hue + position * (end.hue - start.hue),
            "paleness": start.paleness + position * (end.paleness - start.paleness),
        }
    )


def draw(params: Params, source: str, position: float, folder: Path) -> None:
    """The training split of a source in one look; its validation split is one image that nobody reads."""
    world = params.world
    style = between(world, getattr(world, f"{source}_style"), position)
    draw_dataset(source, folder, world.model_copy(update={f"{source}_style": style, f"{source}_val": 1}))


def write_table(params: Params, variants: list[str], positions: list[float]) -> None:
    """Score every checkpoint on every look of every set."""
    layout = ProfilePaths(params.name, params.data)
    models = {name: load_checkpoint(layout.run(name)) for name in variants}
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["dataset", "position", *variants])
    for dataset, source in SETS.items():
        for position in positions:
            one = params.segmentation.datasets[dataset].model_copy(update={"split": "train", "limit": None})
            options = params.segmentation.model_copy(update={"datasets": {dataset: one}})
            # drawn anew each time: a world that has changed is never mistaken for this one
            with TemporaryDirectory() as folder:
                root = Path(folder, source)
                draw(params, source, position, root)
                row = [
                    evaluate_all(model, options, {source: root}).datasets[dataset].miou
                    for model in models.values()
                ]
            table.writerow([dataset, position, *(f"{value:.2f}" for value in row)])
            print(out.getvalue().splitlines()[-1], flush=True)
    write_text(Path("out/look", f"{params.name}.csv"), out.getvalue())


if __name__ == "__main__":
    with readable_errors("look.py"):
        main()
