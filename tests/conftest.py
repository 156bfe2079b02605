"""Here so that tests of every folder may import the helpers that lie in this one.

Shapes in signatures (jaxtyping) are checked throughout the tests, in packages that have them.
"""

from jaxtyping import install_import_hook

install_import_hook(
    ["regroup.objectives", "regroup.adaptation", "regroup.heads", "regroup.backbones.clip"],
    "beartype.beartype",
)
