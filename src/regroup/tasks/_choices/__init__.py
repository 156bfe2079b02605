"""How choices between captions lie in files: a module each, named by `layout` of the task `compositionality`.

A module has

- `KINDS`: names of the kinds that there may be; each is scored by itself;
- `sources()`: the raw data it reads, by the names under `sources:` in params.yaml, that of the choices first;
- `read(kind, roots) -> list[Choice] | None`: the choices of a kind, in the order of the file; None where the
  file is not there;
- perhaps `check(root)`: a look at the folder before anything is read;
- perhaps `GROUPS`: kinds of which a mean is given, by the mean's name;
- perhaps `LEAST`: a kind's score is the mean over `Choice.group`, of those that have so many choices.

Bad files are a `RegroupError` that names the file and the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.errors import RegroupError
from regroup.plugins import Room
from regroup.tasks._ranks import same_text

if TYPE_CHECKING:
    from regroup.features import Box

LAYOUTS = Room("regroup.tasks._choices", "layout of choices", ("sources", "read"))

_NAMED = 5


@dataclass(frozen=True)
class Choice:
    """A picture and captions of which one is true.

    Attributes:
        image: file of the picture.
        captions: the true one, then the others, at least one.
        box: part of the picture that is meant; None: the whole.
        group: what it counts with, where a mean over groups is made.
    """

    image: Path
    captions: tuple[str, ...]
    box: Box | None = None
    group: str = ""

    @property
    def equal(self) -> bool:
        """Whether another caption is the true one, to a model that knows neither capitals nor blanks."""
        true, *others = map(same_text, self.captions)
        return true in others


def check_pictures(choices: list[Choice], file: Path) -> None:
    """Check that every picture is there.

    Raises:
        RegroupError: says how many are missing and names the first.
    """
    pictures = dict.fromkeys(choice.image for choice in choices)
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        named = ", ".join(path.name for path in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise RegroupError(
            f"{missing[0].parent}: {len(missing)} of the {len(pictures)} pictures of {file} are missing"
            f" ({named}); put them there, or use the file that belongs to these pictures"
        )
