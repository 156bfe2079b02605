"""Here so that tests of every folder may import the helpers that lie in this one.

Shapes in signatures (jaxtyping) are checked throughout the tests, in the packages that are named below.
"""

from jaxtyping import install_import_hook

install_import_hook(["regroup.objectives", "regroup.backbones.clip"], "beartype.beartype")
