"""The final model in MLflow's registry, where `mlflow models serve` and other programs find it."""

from __future__ import annotations

import base64
import io
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

import regroup
from regroup.journal.digests import dvc_digest
from regroup.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "pydantic",
    "ruamel.yaml",
    "instant-clip-tokenizer",
    "mlflow",
)
"""What the served code needs; it is stored with the model itself."""


def register(store: Store, root: Path, profile: str, variant: str) -> str | None:
    """Register a variant's checkpoint as the next version of `regroup-<profile>`, and alias it `final`.

    Returns:
        `name/version`; None where there is no checkpoint, or these very weights are registered already.
    """
    folder = root / "runs" / profile / variant
    if not (folder / "model.safetensors").is_file():
        return None
    name, digest = f"regroup-{profile}", dvc_digest(folder).md5
    if store.client.search_model_versions(f"name = '{name}' and tags.digest = '{digest}'"):
        return None
    run = store.run_with(f"runs/{profile}/{variant}", digest)
    if run is None:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        _save(folder, Path(temporary, "model"))
        store.log_artefact(run, Path(temporary, "model"), "model")
    if not store.client.search_registered_models(f"name = '{name}'"):
        store.client.create_registered_model(name, description=_about(profile))
    made = store.client.create_model_version(
        name, source=f"runs:/{run}/model", run_id=run, tags={"digest": digest, "variant": variant}
    )
    store.client.set_registered_model_alias(name, "final", made.version)
    return f"{name}/{made.version}"


def _save(checkpoint: Path, target: Path) -> None:
    with warnings.catch_warnings():
        # that it would rather have type hints than a signature, also in its own code as that is imported
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"checkpoint": str(checkpoint)},
            signature=signature(),
            input_example=example(),
            pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
            code_paths=[str(Path(regroup.__file__).parent)],
        )


def signature() -> ModelSignature:
    """What a request and its answer look like."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, DataType, Map

    text = DataType.string
    answer = {
        "mask": text,
        "overlay": text,
        "classes": Array(text),
        "shares": Map(DataType.double),
    }
    return ModelSignature(
        inputs=Schema([ColSpec(text, "image"), ColSpec(text, "classes")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        params=ParamSchema([ParamSpec("background", DataType.double, 0.0)]),
    )


def example() -> Any:
    """A request: sky over grass, of plain colours."""
    import pandas as pd

    image = Image.new("RGB", (96, 96), (110, 170, 235))
    image.paste((70, 140, 60), (0, 56, 96, 96))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return pd.DataFrame(
        {"image": [base64.b64encode(buffer.getvalue()).decode()], "classes": ["sky, grass, dog"]}
    )


def _about(profile: str) -> str:
    return (
        f"Open-vocabulary segmentation: the study's final variant, profile `{profile}`. A request has "
        "`image` (base64) and `classes` (names with commas); the answer has mask, overlay and shares."
    )
