"""The one exception that users are meant to read."""


class RegroupError(Exception):
    """Bad input or a bad setting.

    The message names the file and the key at fault and says what to do; the command line prints it
    without a traceback and exits with status 2.
    """


def shown(text: object, most: int = 100) -> str:
    """Text of unknown origin for a message: one line of at most `most` characters, fit for a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def shortlist(names: list[str], most: int = 20) -> str:
    """Names with commas between; of many the first, and how many there are."""
    first = ", ".join(shown(name) for name in names[:most])
    return first if len(names) <= most else f"{first}, ... ({len(names)} in all)"
