"""The one exception for wrong input. Programs print it as one line and exit with status 2."""

import unicodedata
from collections.abc import Iterable


class InputError(ValueError):
    """Something the caller gave is wrong. The message says what, where, what was expected and what to do."""

    def __init__(self, message: str):
        super().__init__(one_line(message))  # it may quote what a file holds, or the message of a library


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that is nearest, or nothing if none is near.

    Example:
      >>> from sealkd_jax.errors import did_you_mean
      >>> did_you_mean("saal", ["none", "ela", "seal"])
      '; did you mean seal?'
      >>> did_you_mean("ela", ["tks", "dkd"])
      ''
    """
    import difflib

    return "".join(f"; did you mean {near}?" for near in difflib.get_close_matches(name, list(known), 1))


def reason(error: BaseException) -> str:
    """Why something failed, on one line: the system's words if there are any.

    Example:
      >>> from sealkd_jax.errors import reason
      >>> reason(FileNotFoundError(2, "No such file or directory", "a.png")), reason(ValueError("two   spaces"))
      ('No such file or directory', 'two spaces')
    """
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(text.split())


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return printable(" ".join(filter(None, map(str.strip, text.splitlines()))))


def printable(text: str) -> str:
    """The text with a mark for each character that a terminal would obey or that cannot be written as UTF-8."""
    if text.isprintable():
        return text
    return "".join("�" if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, direction of writing, halves of UTF-16, ends of lines
