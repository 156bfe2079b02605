"""Words that keep results of the drawn world from being taken for the thesis's.

Whether data is drawn is a fact of the profile's sources (`Params.drawn`), and never read from its name.
"""

from __future__ import annotations

OPENMOJI = "Drawn with emojis by OpenMoji (openmoji.org), licence CC BY-SA 4.0."
"""Attribution that must stand beside every picture with glyphs."""


def table_note(profile: str, *, drawn: bool, printed: bool) -> str | None:
    """What a table of a profile must say if its data is drawn; None for others.

    `printed`: published values stand beside ours.
    """
    if not drawn:
        return None
    return f"{profile}: our numbers come from a small model on small drawn images. They are not the " + (
        "thesis's experiment; its column stands beside them for orientation only."
        if printed
        else "experiment of any publication: compare them with each other alone."
    )


def figure_note(profile: str, *, drawn: bool) -> str | None:
    """What a figure of a profile must say if its data is drawn, attribution included; None for others."""
    if not drawn:
        return None
    return f"{profile}: drawn images, small model; not the thesis's experiment. {OPENMOJI}"
