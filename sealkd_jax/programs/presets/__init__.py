"""Presets by name: one module each, whose docstring says data, command, time, and the accuracy expected and seen.

A module here is a preset: `cifar10_fast.py` is `cifar10-fast`. Its `PRESET` holds the options.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from sealkd_jax.programs.options import Preset

DEFAULT = "digits"


def discover() -> dict[str, Preset]:
    """The presets of this folder, the default one first."""
    names = sorted(module.name.replace("_", "-") for module in iter_modules(__path__))
    names.sort(key=lambda name: name != DEFAULT)
    return {name: _module(name).PRESET for name in names}


def description(name: str) -> str:
    """The docstring of a preset's module."""
    return _module(name).__doc__ or ""


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name.replace('-', '_')}")


PRESETS = discover()
