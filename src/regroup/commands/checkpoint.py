"""`regroup checkpoint inspect|convert|random`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, get_args

from regroup.adaptation.parts import Part, count_part
from regroup.backbones import config_from, load_checkpoint, make, read_checkpoint
from regroup.commands.arguments import MOST_PIXELS, add_actions, path, whole
from regroup.commands.outputs import check_output, check_untracked
from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.model import GroupViTConfig
from regroup.model.checkpoint import save_checkpoint, save_hugging_face, save_original
from regroup.model.groupvit import GroupViT

EXAMPLES = """examples:
  regroup checkpoint inspect group_vit_gcc_yfcc_30e-879422e0.pth
  regroup checkpoint convert group_vit_gcc_yfcc_30e-879422e0.pth groupvit --image-size 384
  regroup checkpoint convert runs/mini/refined-384 refined.pth --to original
  regroup checkpoint random out/random --config runs/mini/original/config.json --seed 1"""


def add_parser(commands: Any) -> None:
    """Add the command `checkpoint`; the parsed namespace's `run` does it and returns the exit status."""
    about = "look into a checkpoint or convert it"
    description = "Look into a checkpoint of any backbone and layout, or write it in another."
    actions = add_actions(commands, "checkpoint", about=about, description=description, examples=EXAMPLES)

    inspect = actions.add_parser("inspect", help="print layout, shape and parameter counts", epilog=EXAMPLES)
    _add_file(inspect)
    inspect.set_defaults(run=lambda arguments: _inspect(arguments.file))

    convert = actions.add_parser(
        "convert",
        help="write the same weights in another layout",
        description="Write the same weights in another layout. Nothing that is there already is overwritten.",
        epilog=EXAMPLES,
    )
    _add_file(convert)
    convert.add_argument("output", type=path, help="folder to write, or file for --to original")
    convert.add_argument(
        "--to", choices=("regroup", "original", "huggingface"), default="regroup", help="default: %(default)s"
    )
    convert.add_argument(
        "--image-size",
        type=whole(1, MOST_PIXELS),
        metavar="PIXELS",
        help="resize the position embedding to this training size",
    )
    convert.set_defaults(
        run=lambda arguments: _convert(arguments.file, arguments.output, arguments.to, arguments.image_size)
    )

    random = actions.add_parser(
        "random",
        help="write random weights, as training from nothing would begin with",
        description="Write a checkpoint of random weights: what it scores is what chance gives.",
        epilog=EXAMPLES,
    )
    random.add_argument("output", type=path, help="folder to write, new or empty")
    random.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="a config.json with the sizes, of any backbone (GroupViT as it was published)",
    )
    random.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, metavar="N", help="(0)")
    random.set_defaults(run=lambda arguments: _random(arguments.output, arguments.config, arguments.seed))


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=path, help="our folder, a Hugging Face folder or file, or an original .pth"
    )


def describe(file: Path) -> str:
    """A few lines about a checkpoint, after loading it strictly.

    Raises:
        RegroupError: it cannot be loaded; the message lists what does not fit.
    """
    checkpoint = read_checkpoint(file)
    model = checkpoint.model()
    scale, multi_label = (s.detach().exp().item() for s in (model.logit_scale, model.multi_label_logit_scale))
    rows = [
        ("layout", checkpoint.title),
        ("backbone", model.config.architecture),
        *([("weights", checkpoint.weights.note)] if checkpoint.weights.note else []),
        *model.facts(),
        ("logit scale", f"{scale:.4g}, multi-label {multi_label:.4g}"),
    ]
    rows += [
        (f"trainable: {part}", f"{count_part(model, part):,}")
        for part in get_args(Part)
        if part != "nothing" and set(part.split("+")) <= model.parts().keys()
    ]
    return "\n".join(f"{name:<36}{value}" for name, value in rows)


def _inspect(file: Path) -> int:
    print(describe(file))
    return 0


def _check_free(output: Path, *, folder: bool) -> None:
    """Refuse, before any work, a place that holds something or cannot be written.

    Raises:
        RegroupError: says what stands there.
    """
    check_untracked(output, "OUTPUT")
    if folder:
        check_output(output, "OUTPUT")
        if output.is_dir() and any(output.iterdir()):
            raise RegroupError(f"{output}: is a folder with files in it; name one that is new or empty")
    else:
        check_output(output.parent, "OUTPUT")
        if os.path.lexists(output):
            raise RegroupError(f"{output}: is there already; name a file that is new")


def _convert(file: Path, output: Path, to: str, image_size: int | None) -> int:
    _check_free(output, folder=to != "original")
    model = load_checkpoint(file, image_size=image_size)
    if to == "regroup":
        save_checkpoint(model, output)
    elif not isinstance(model, GroupViT):
        raise RegroupError(
            f"--to {to}: only a GroupViT can be written so, and {file} is a {model.config.architecture}"
        )
    elif to == "original":
        save_original(model, output)
    else:
        save_hugging_face(model, output)
    print(f"{output}: written ({to})")
    return 0


def _random(output: Path, config: Path | None, seed: int) -> int:
    import torch

    _check_free(output, folder=True)
    sizes = GroupViTConfig() if config is None else config_from(read_json(config), source=str(config))
    save_checkpoint(make(sizes, torch.Generator().manual_seed(seed)).eval(), output)
    print(f"{output}: random weights of a {sizes.architecture}, seed {seed}")
    return 0
