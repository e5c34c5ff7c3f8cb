"""The one exception for wrong input. Programs print it as one line and exit with status 2."""


class InputError(ValueError):
    """Something the caller gave is wrong. The message says what, where, what was expected and what to do."""
