"""Words that keep results of the drawn world from being taken for the thesis's."""

from __future__ import annotations

OPENMOJI = "Drawn with emojis by OpenMoji (openmoji.org), licence CC BY-SA 4.0."
"""Attribution that must stand beside every picture with glyphs."""


def is_drawn(profile: str) -> bool:
    """Whether a profile is `mini` or one made from it (`mini-...`), which draw their own images."""
    return profile == "mini" or profile.startswith("mini-")


def table_note(profile: str) -> str | None:
    """What a table of a drawn profile must say; None for others."""
    if not is_drawn(profile):
        return None
    return (
        f"{profile}: our numbers come from a small model on small drawn images. They are not the thesis's "
        "experiment; its column stands beside them for orientation only."
    )


def figure_note(profile: str) -> str | None:
    """What a figure of a drawn profile must say, attribution included; None for others."""
    if not is_drawn(profile):
        return None
    return f"{profile}: drawn images, small model; not the thesis's experiment. {OPENMOJI}"
