"""What the extra `events` installs, imported where it is used."""

from collections.abc import Iterator
from contextlib import contextmanager

from sealkd_jax.errors import InputError


@contextmanager
def extra() -> Iterator[None]:
    """Names the command that installs what an import inside the block does not find."""
    try:
        yield
    except ImportError as error:
        raise InputError(f'event data sets need {error.name}: pip install -e ".[events]"') from error
