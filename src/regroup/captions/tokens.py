"""CLIP's byte-pair tokens."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from instant_clip_tokenizer import Tokenizer

from regroup.model.constants import CLIP_CONTEXT, END_OF_TEXT


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer()


def tokenize(
    texts: Sequence[str], *, context: int = CLIP_CONTEXT, width: int | None = None
) -> npt.NDArray[np.int64]:
    """Token ids of texts.

    HTML entities are resolved, runs of white space become one blank and letters lower case, as in CLIP.

    Args:
        texts: any; an empty text is start and end of text alone.
        context: the longest row; a longer text is cut and still ends with end of text.
        width: columns of the result; None takes as many as the longest row here needs.

    Returns:
        int64 [len(texts), width], a row = start of text (49406), tokens, end of text (49407), zeros.
    """
    if not texts:
        return np.zeros((0, width or 2), dtype=np.int64)
    cleaned = [_clean(text) for text in texts]
    ids = _tokenizer().tokenize_batch(cleaned, context_length=width or context).astype(np.int64)
    if width is None:
        ids = ids[:, : int((ids == END_OF_TEXT).argmax(axis=1).max()) + 1]
    return np.ascontiguousarray(ids)


def _clean(text: str) -> str:
    return " ".join(html.unescape(html.unescape(text)).split())
