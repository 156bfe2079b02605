"""The two public weights of the averaged-perceptron tagger, read without running anything they contain."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from regroup.errors import RegroupError

TaggerName = Literal["textblob", "nltk"]

TEXTBLOB_SHA256 = "1109164b3d28dce58f96b763128bab2fd8754c3921fd3330de2724ac6d1ada7c"
NLTK_ZIP_SHA256 = "6025f530624335c67d6547d44757b357b4e79bae030a0383e9887a92c1718f0b"

_TEXTBLOB_FILE = "trontagger-0.1.0.pickle"
_NLTK_FOLDER = "averaged_perceptron_tagger_eng"
_NLTK_PARTS = ("weights", "tagdict", "classes")


@dataclass(frozen=True)
class TaggerWeights:
    """An averaged perceptron: what NLTK's `PerceptronTagger` needs, and where it came from.

    Attributes:
        name: `textblob` or `nltk`.
        version: the first 12 hex digits of the SHA-256 of the file (of the three files in order, for `nltk`).
        weights: feature -> tag -> weight.
        tagdict: word -> tag for words that are never ambiguous.
        classes: the tags, sorted.
    """

    name: TaggerName
    version: str
    weights: dict[str, dict[str, float]]
    tagdict: dict[str, str]
    classes: tuple[str, ...]


def load_weights(name: TaggerName, path: Path | None = None) -> TaggerWeights:
    """Load tagger weights.

    Args:
        name: `textblob` are the weights that the package textblob-aptagger ships (found by themselves when
            `path` is None); `nltk` are NLTK's `averaged_perceptron_tagger_eng`.
        path: the pickle for `textblob`; for `nltk` the folder with the three json files, its parent, or the
            zip archive as downloaded.

    Raises:
        RegroupError: missing, of another checksum, or not the expected structure.
    """
    if name == "textblob":
        return _load_textblob(path or _installed_textblob())
    if path is None:
        raise RegroupError(
            f"nouns: tagger_path: tagger 'nltk' needs the path of {_NLTK_FOLDER} (folder or zip archive);"
            " download it, or set nouns.tagger to 'textblob'"
        )
    return _load_nltk(path)


class _PlainUnpickler(pickle.Unpickler):
    """Admits dicts, lists, tuples, strings, numbers and sets; any other class is refused unseen."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("builtins", "set"), ("__builtin__", "set")}:
            return set
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which tagger weights do not contain")


def _installed_textblob() -> Path:
    spec = importlib.util.find_spec("textblob_aptagger")
    if spec is None or spec.origin is None:
        raise RegroupError("nouns: tagger: the package textblob-aptagger is not installed; pip install it")
    return Path(spec.origin).parent / _TEXTBLOB_FILE


def _load_textblob(path: Path) -> TaggerWeights:
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != TEXTBLOB_SHA256:
        raise RegroupError(
            f"{path}: its SHA-256 is {digest}, not {TEXTBLOB_SHA256}; reinstall textblob-aptagger==0.2.0"
        )
    return parse_textblob(path, content, digest)


def parse_textblob(path: Path, content: bytes, digest: str) -> TaggerWeights:
    """Parse the pickle of textblob-aptagger: a tuple (weights, tagdict, classes) of plain containers.

    Raises:
        RegroupError: it asks for any class, or is built otherwise.
    """
    try:
        value = _PlainUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, ValueError) as error:
        raise RegroupError(f"{path}: not tagger weights: {error}") from None
    if not isinstance(value, tuple) or len(value) != 3:
        raise RegroupError(f"{path}: not tagger weights: expected (weights, tagdict, classes)")
    return _checked(path, "textblob", digest, *value)


def _load_nltk(path: Path) -> TaggerWeights:
    contents = _nltk_zip(path) if path.is_file() else _nltk_folder(path)
    try:
        values = [json.loads(content) for content in contents]
    except ValueError as error:
        raise RegroupError(f"{path}: not NLTK's tagger weights: {error}") from None
    return _checked(path, "nltk", hashlib.sha256(b"".join(contents)).hexdigest(), *values)


def _nltk_folder(path: Path) -> list[bytes]:
    folder = path / _NLTK_FOLDER if (path / _NLTK_FOLDER).is_dir() else path
    return [_read(folder / f"{_NLTK_FOLDER}.{part}.json") for part in _NLTK_PARTS]


def _nltk_zip(path: Path) -> list[bytes]:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != NLTK_ZIP_SHA256:
        raise RegroupError(f"{path}: its SHA-256 is not {NLTK_ZIP_SHA256}; download the archive again")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(f"{_NLTK_FOLDER}/{_NLTK_FOLDER}.{part}.json") for part in _NLTK_PARTS]


def _checked(
    path: Path, name: TaggerName, digest: str, weights: object, tagdict: object, classes: object
) -> TaggerWeights:
    if not (isinstance(weights, dict) and isinstance(tagdict, dict) and isinstance(classes, set | list)):
        raise RegroupError(f"{path}: not tagger weights: expected weights, a tag dictionary and the classes")
    if not classes or not set(tagdict.values()) <= set(classes):
        raise RegroupError(f"{path}: not tagger weights: the tag dictionary has tags that are no classes")
    return TaggerWeights(name, digest[:12], weights, tagdict, tuple(sorted(classes)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RegroupError(f"{path}: tagger weights cannot be read ({error.strerror})") from None
