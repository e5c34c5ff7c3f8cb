"""The programs, one a module: a function of the module's name, and `main` for the command line.

Each module here is a sub-command of `sealkd`; the first line of its docstring stands in the overview.
"""

import ast
import sys
from pathlib import Path
from pkgutil import iter_modules


def programs() -> dict[str, str]:
    """The name of each program, and the first line of its docstring. Imports none of them."""
    found = {}
    for module in iter_modules(__path__):
        source = Path(__path__[0], f"{module.name}.py").read_text(encoding="utf-8")
        found[module.name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def command(program: str) -> str:
    """How the user starts a program: `sealkd distill`, or `python -m train.distill` from a checkout."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    from_checkout = spec is not None and spec.name.partition(".")[0] == "train"
    return f"python -m train.{program}" if from_checkout else f"sealkd {program}"
