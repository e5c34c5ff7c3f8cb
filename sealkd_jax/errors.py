"""The one exception for wrong input. Programs print it as one line and exit with status 2."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something the caller gave is wrong. The message says what, where, what was expected and what to do."""


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
