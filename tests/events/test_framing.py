"""Events become frames: every one is counted once, in the slice that the rule names.

Axis legend: E events, T timesteps.
"""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tonic.transforms import ToFrame

from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.data.events.recordings import Events
from sealkd_jax.errors import InputError
from tests.helpers.event_files import events, some_events

SENSOR = 6


def by_the_rule(recording, steps, by, size):
    """One event at a time, in exact fractions."""
    counts = np.zeros((steps, size, size, 2), int)
    first, last = int(recording.t[0]), int(recording.t[-1])
    for e, (x, y, p, t) in enumerate(zip(*(column.tolist() for column in recording), strict=True)):
        share = Fraction(e, len(recording.t)) if by == "count" else Fraction(t - first, max(last - first, 1))
        step = min(floor(share * steps), steps - 1)
        counts[step, floor(Fraction(y * size, SENSOR)), floor(Fraction(x * size, SENSOR)), p] += 1
    return counts


@given(
    recording=events(SENSOR),
    steps=st.integers(1, 9),
    by=st.sampled_from(["time", "count"]),
    size=st.integers(1, SENSOR),
)
@settings(max_examples=100, deadline=None)
def test_every_event_is_counted_once_where_the_rule_says(recording, steps, by, size):
    counts = frames(recording, Framing(steps, by, size), SENSOR)
    np.testing.assert_array_equal(counts, by_the_rule(recording, steps, by, size))
    assert counts.sum() == len(recording.t)


def test_an_event_on_a_boundary_is_the_later_slices_and_the_last_slice_is_closed():
    t = np.array([100, 149, 150, 199, 200])
    zero = np.zeros(5, int)
    counts = frames(Events(zero, zero, zero, t), Framing(2, "time", 1), SENSOR)
    assert counts.sum((1, 2, 3)).tolist() == [2, 3]


@given(recording=events(SENSOR), steps=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_slices_of_equal_count_differ_by_one_at_most(recording, steps):
    sizes = frames(recording, Framing(steps, "count", SENSOR), SENSOR).sum((1, 2, 3))
    assert sizes.max() - sizes.min() <= 1


def test_all_at_one_time_are_in_the_first_slice():
    recording = some_events(9, SENSOR)._replace(t=np.full(9, 77))
    assert frames(recording, Framing(3, "time", SENSOR), SENSOR).sum((1, 2, 3)).tolist() == [9, 0, 0]


def structured(recording):
    array = np.zeros(len(recording.t), [(name, np.int64) for name in "xypt"])
    for name in "xypt":
        array[name] = getattr(recording, name)
    return array


def test_tonics_frames_are_the_same_where_they_leave_no_event_out():
    recording = some_events(120, SENSOR)
    tonics = ToFrame(sensor_size=(SENSOR, SENSOR, 2), n_event_bins=4)(structured(recording)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(frames(recording, Framing(4, "count", SENSOR), SENSOR), tonics)
    t = np.arange(121) * 10  # of 1200 microseconds: tonic leaves out the last event
    recording = some_events(121, SENSOR)._replace(t=t)
    tonics = ToFrame(sensor_size=(SENSOR, SENSOR, 2), n_time_bins=4)(structured(recording)).transpose(0, 2, 3, 1)
    ours = frames(recording, Framing(4, "time", SENSOR), SENSOR)
    np.testing.assert_array_equal(ours[:3], tonics[:3])
    assert tonics.sum() == 120 and ours.sum() == 121


@pytest.mark.parametrize("by", ["time", "count"])
def test_the_rule_of_spikingjelly_is_the_same_where_nothing_is_left_over(by):
    """There the last slice has what is left over: `[i n, (i + 1) n)` with n = total // T, the last to the end."""
    steps, recording = 4, some_events(120, SENSOR)
    recording = recording._replace(t=np.concatenate([recording.t[:-1], [recording.t[0] + 400_000]]))
    position = np.arange(120) if by == "count" else recording.t - recording.t[0]
    width = (120 if by == "count" else 400_000) // steps
    expected = [np.count_nonzero((position >= i * width) & (position < (i + 1) * width)) for i in range(steps - 1)]
    sizes = frames(recording, Framing(steps, by, SENSOR), SENSOR).sum((1, 2, 3))
    assert sizes.tolist() == [*expected, 120 - sum(expected)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timesteps": 0}, "timesteps: expected an integer from 1 to 1000, got 0"),
        ({"timesteps": 2.0}, "got 2.0"),
        ({"timesteps": True}, "got True"),
        ({"timesteps": 4, "by": "events"}, "by: expected time or count, got 'events'"),
        ({"timesteps": 4, "size": 0}, "size: expected an integer"),
        ({"timesteps": 4, "on_bad_recording": "ignore"}, "on_bad_recording: expected fail or skip"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(InputError, match=words):
        Framing(**settings)


def test_a_frame_larger_than_the_sensor_is_refused():
    assert Framing(4).for_sensor("nmnist", 34, 34).size == 34
    assert Framing(4, size=17).for_sensor("nmnist", 34, 34).size == 17
    with pytest.raises(InputError, match="at most 34, the side of nmnist's sensor, got 48"):
        Framing(4, size=48).for_sensor("nmnist", 34, 34)
