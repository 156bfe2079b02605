"""The model that MLflow serves: `mlflow models serve` runs this very file, nothing is pickled.

A request has one row an image: `image` (the file's bytes in base64: JPEG, PNG, ...) and `classes` (names
separated by commas). The answer has for each: `mask` (a palette PNG in base64 whose values are positions in
`classes`), `overlay` (a PNG in base64 to look at), `classes`, and `shares` (part of the pixels, by class).
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from regroup.errors import RegroupError
from regroup.pictures import MAX_BYTES, BrokenImageError


class Segmenter(PythonModel):
    """A checkpoint that segments images into classes that the request names."""

    def load_context(self, context: Any) -> None:
        """Load the checkpoint that was stored with the model."""
        from regroup.backbones import load_checkpoint
        from regroup.device import choose_device

        self._model = load_checkpoint(Path(context.artifacts["checkpoint"])).to(choose_device("auto"))

    # without types: MLflow would take them for a schema in place of the signature
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # see above
        """Segment each row of a data frame with the columns `image` and `classes`.

        Args:
            context: MLflow's; not used.
            model_input: the data frame.
            params: `background`: pixels whose best score is below are background; 0: there is none.

        Raises:
            RegroupError: an image that cannot be read (`regroup.pictures` says which can), no class, or a
                class twice.
        """
        threshold = float((params or {}).get("background", 0.0)) or None
        rows = zip(model_input["image"], model_input["classes"], strict=True)
        return [self._segment(str(image), str(classes), threshold) for image, classes in rows]

    def _segment(self, image: str, classes: str, threshold: float | None) -> dict[str, Any]:
        from regroup.segmentation.segment import segment_images, write_segmented
        from regroup.segmentation.settings import InferenceParams

        side = 2 * self._model.image_size
        params = InferenceParams(
            short_side=side, long_side=max(2048, side), window=side, stride=max(1, side // 2)
        )
        names = [name.strip() for name in classes.split(",") if name.strip()]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "image")
            file.write_bytes(_decode(image))
            try:
                [(_, found)] = segment_images(self._model, [file], names, params, threshold=threshold)
            except BrokenImageError as error:  # without the name of a file that the sender does not know
                raise RegroupError(f"image: {error.reason}") from None
            overlay, mask, *_ = write_segmented(found, Path(folder, "out"), source="image", settings={})
            pixels = found.labels.size
            return {
                "mask": base64.b64encode(mask.read_bytes()).decode(),
                "overlay": base64.b64encode(overlay.read_bytes()).decode(),
                "classes": list(found.names),
                "shares": {name: count / pixels for name, count in found.areas().items()},
            }


def _decode(text: str) -> bytes:
    if len(text) > 4 * (MAX_BYTES // 3 + 1):
        raise RegroupError(f"image: larger than the {MAX_BYTES / 1e6:.0f} MB that are read")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RegroupError(f"image: not base64 ({error}); send the file's bytes in base64") from None


set_model(Segmenter())
