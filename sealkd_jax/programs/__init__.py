"""The programs as functions: `distill("digits", method="seal", epochs=5, out="runs/x")`.

Each is loaded when it is first asked for, so that importing this package loads nothing that they need.
"""

import functools
import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sealkd_jax.errors import InputError

if TYPE_CHECKING:
    from sealkd_jax.programs.commands.compare import compare
    from sealkd_jax.programs.commands.distill import distill
    from sealkd_jax.programs.commands.evaluate import evaluate
    from sealkd_jax.programs.commands.export import export
    from sealkd_jax.programs.commands.precompute import precompute
    from sealkd_jax.programs.commands.prepare import prepare
    from sealkd_jax.programs.commands.teacher import teacher

__all__ = ["compare", "distill", "evaluate", "export", "precompute", "prepare", "teacher"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    program = _naming_keywords(getattr(import_module(f"{__name__}.commands.{name}"), name))
    globals()[name] = program
    return program


def _naming_keywords(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program with errors that name keywords, `batch_size`, instead of flags; not within a command."""

    @functools.wraps(program)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return program(*args, **kwargs)
        except InputError as error:
            flag = re.compile(r"((?:sealkd|python -m) [^;,]*)|--([a-z][a-z-]*)")
            message = flag.sub(lambda match: match[1] or match[2].replace("-", "_"), str(error))
            raise InputError(message) from error

    return call
