"""What makes parts of a source out of a published file, where unpacking is not enough: a module each.

A module has `make(file, folder, *, progress) -> str`: it makes the paths below `folder` that the artefact's
`makes` names, whole or not at all, and says in one line what it made; bad content is a `RegroupError`.
"""

from __future__ import annotations

from regroup.plugins import Room

MAKERS = Room("regroup.sources.makers", "maker")
"""Named by `made_by` of an artefact."""
