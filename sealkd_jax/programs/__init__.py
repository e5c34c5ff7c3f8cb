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
    from sealkd_jax.programs.commands.predict import predict
    from sealkd_jax.programs.commands.prepare import prepare
    from sealkd_jax.programs.commands.teacher import teacher
    from sealkd_jax.programs.finished import load_run

__all__ = ["compare", "distill", "evaluate", "export", "load_run", "precompute", "predict", "prepare", "teacher"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "finished" if name == "load_run" else f"commands.{name}"
    program = _as_function(getattr(import_module(f"{__name__}.{module}"), name))
    globals()[name] = program
    return program


def _as_function(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program with its call as the command that files record, and errors that name keywords instead of flags."""
    from sealkd_jax.programs.environment import CALL

    @functools.wraps(program)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
        token = CALL.set(f"{program.__name__}({', '.join(given)})")
        try:
            return program(*args, **kwargs)
        except InputError as error:
            flag = re.compile(r"((?:sealkd|python -m) [^;,]*)|--([a-z][a-z-]*)")
            message = flag.sub(lambda match: match[1] or match[2].replace("-", "_"), str(error))
            raise InputError(message) from error
        finally:
            CALL.reset(token)

    return call
