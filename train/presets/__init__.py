"""Presets by name, each a module whose docstring says command, time, hardware and accuracy."""

from train.presets import digits

PRESETS = {"digits": digits.PRESET}
DEFAULT = "digits"
