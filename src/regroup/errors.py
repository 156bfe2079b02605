"""The one exception that users are meant to read."""


class RegroupError(Exception):
    """Bad input or a bad setting.

    The message names the file and the key at fault and says what to do; the command line prints it
    without a traceback and exits with status 2.
    """
