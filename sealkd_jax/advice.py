"""Advice that other libraries log through absl, and that our users could not follow."""

import logging

_STARTS = (
    "Waiting for previous save",  # Orbax, to write fewer checkpoints where one takes longer than an epoch
    "OpenCV is not installed",  # TFDS, to decode with what is no dependency of ours
)


def leave_out_advice() -> None:
    """Such lines are not shown any more."""
    logging.getLogger("absl").addFilter(_is_for_users)


def _is_for_users(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_STARTS)
