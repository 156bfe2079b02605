"""What a text of a file may hold."""

from __future__ import annotations


def text_problem(text: str) -> str | None:
    """Why a text cannot be written in UTF-8, or None: JSON and YAML can carry half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"is not Unicode: {error.object[error.start]!r} is half of a character"
    return None
