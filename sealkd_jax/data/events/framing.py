"""Frames: counts of events by slice of time, row, column and polarity. Every event is counted once.

Why not tonic's `ToFrame`: `n_time_bins` drops the last event and up to T - 1 microseconds of events before it,
`n_event_bins` up to T - 1 events, and its int16 counts overflow. Otherwise the two agree.

Axis legend: E events, T timesteps, H height, W width, 2 polarities (0 darker, 1 brighter).
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from sealkd_jax.data.events.recordings import Events, Sensor, sides
from sealkd_jax.errors import InputError

By = Literal["time", "count"]
OnBadRecording = Literal["fail", "skip"]


@dataclass(frozen=True)
class Framing:
    """How a recording becomes T frames.

    Args:
        timesteps: T, 1 to 1000.
        by: "time", slices of equal duration; "count", slices with equally many events. See `frames`.
        size: side of the frames in pixels, the longer one if they are not square, at most the sensor's. None: the data
            set's usual size, 34 for nmnist, 128 for dvs-gesture and one's own, 48 for cifar10-dvs. Coordinates are
            scaled, `floor(x * size / sensor)`, so frames stay counts; the paper's code resizes whole frames
            bilinearly, which gives fractions.
        on_bad_recording: "fail" at the first damaged recording, or "skip" damaged ones. If more than half are
            damaged, "skip" fails, too.
        sensor_size: width and height of the sensor of your own recordings; None: the largest coordinates.

    Raises:
        InputError: for any other value.
    """

    timesteps: int
    by: By = "time"
    size: int | None = None
    on_bad_recording: OnBadRecording = "fail"
    sensor_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _integer("timesteps", self.timesteps, 1000)
        if self.size is not None:
            _integer("size", self.size, 1000)
        for side in self.sensor_size or ():
            _integer("sensor_size", side, 2**14)
        if self.sensor_size is not None and len(self.sensor_size) != 2:
            raise InputError(f"framing sensor_size: expected width and height, got {self.sensor_size}")
        for name, choices in (("by", get_args(By)), ("on_bad_recording", get_args(OnBadRecording))):
            if getattr(self, name) not in choices:
                raise InputError(f"framing {name}: expected {' or '.join(choices)}, got {getattr(self, name)!r}")

    def for_sensor(self, name: str, sensor: int, usual_size: int) -> "Framing":
        """The framing with its size filled in, and checked against a data set's sensor."""
        size = usual_size if self.size is None else self.size
        if size > sensor:
            raise InputError(f"framing size: expected at most {sensor}, the side of {name}'s sensor, got {size}")
        return replace(self, size=size)


def frames(events: Events, framing: Framing, sensor: Sensor) -> np.ndarray:
    """Counts of events, each event in exactly one of T slices, so the sum of all counts is E.

    By time, with the first event at t₀ and the last at t₁, an event at t is in slice
    `min(floor(T (t - t₀) / (t₁ - t₀)), T - 1)`: an event on a boundary is in the later slice, and the last slice
    includes t₁. By count, event e is in slice `floor(e T / E)`: sizes differ by at most one.

    Args:
        events: a recording that passed `recordings.checked`.
        framing: T, the slices, and the size of the frames; the sensor's size if None. Frames have its proportions.
        sensor: its size.

    Returns:
        int64 `[T, H, W, 2]`.
    """
    steps, (width, height) = framing.timesteps, sides(sensor)
    longer = max(width, height)
    size = min(framing.size or longer, longer)
    columns, rows = (max(1, side * size // longer) for side in (width, height))
    x, y, p, t = events
    if framing.by == "time":
        t = t - t[0]
        step = np.minimum(t * steps // max(t[-1], 1), steps - 1)
    else:
        step = np.arange(len(t)) * steps // len(t)
    cell = ((step * rows + y * rows // height) * columns + x * columns // width) * 2 + p
    return np.bincount(cell, minlength=steps * rows * columns * 2).reshape(steps, rows, columns, 2)


def _integer(name: str, value: int, highest: int) -> None:
    if type(value) is not int or not 1 <= value <= highest:
        raise InputError(f"framing {name}: expected an integer from 1 to {highest}, got {value!r}")
