"""Augmentation of recordings of events. Frequencies are checked to five standard deviations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sealkd_jax.data.event_augmentation import event_drop, nda, roll, rotate, time_shift
from sealkd_jax.data.image_augmentation import cutout, flip
from sealkd_jax.errors import InputError

FRAMES = np.random.default_rng(0).integers(1, 2**16, (3, 4, 5, 2)).astype(np.uint16)  # no empty cell
NOTHING = {
    "roll": roll(0),
    "rotate": rotate(0),
    "cutout": cutout(0),
    "time_shift": time_shift(0),
    "event_drop": event_drop(0),
}


def many(augmentation, count, frames=FRAMES, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(augmentation, (0, None)))(keys, jnp.asarray(frames)))


def equally_often(out, outcomes):
    """Each of `out` is one of `outcomes`, which are distinct, and these come equally often."""
    counts = np.array([(out == outcome).all(tuple(range(1, out.ndim))).sum() for outcome in outcomes])
    mean = len(out) / len(outcomes)
    assert counts.sum() == len(out)
    assert np.abs(counts - mean).max() <= 5 * np.sqrt(mean * (1 - 1 / len(outcomes)))


def test_flip_mirrors_x_half_of_the_time():
    equally_often(many(flip(), 2000), [FRAMES, FRAMES[:, :, ::-1]])


def test_roll_takes_each_shift_of_both_axes_equally_often():
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    equally_often(many(roll(1), 4500), [np.roll(FRAMES, shift, (1, 2)) for shift in shifts])


@pytest.mark.parametrize("height, width", [(9, 9), (8, 13)])
def test_rotation_turns_all_frames_by_one_angle_as_scipy_does(height, width):
    frames = np.random.default_rng(1).integers(1, 2**16, (2, height, width, 2)).astype(np.uint16)
    out = many(rotate(30), 300, frames)
    angles = np.linspace(-30, 30, 6001)  # so fine that between two of them hardly a cell changes
    turned = np.stack(
        [ndimage.rotate(frames[0, :, :, 0], a, reshape=False, order=0, mode="grid-constant") for a in angles]
    )
    differing = (out[:, None, 0, :, :, 0] != turned).sum((2, 3))
    assert differing.min(1).max() <= 2
    drawn = angles[differing.argmin(1)]
    assert drawn.min() < -25 and drawn.max() > 25 and abs(drawn.mean()) < 5 * 60 / np.sqrt(12 * 300)
    places = np.arange(1, frames[0].size + 1, dtype=np.uint16).reshape(1, height, width, 2)
    out = many(rotate(30), 9, np.concatenate([places, frames, places]))
    np.testing.assert_array_equal(out[:, 0], out[:, -1])


def test_nda_does_one_of_its_three_equally_often():
    frames = np.arange(1, 513, dtype=np.uint16).reshape(1, 16, 16, 2)
    out = many(nda(1), 3000, frames)
    shifts = [(y, x) for y in range(-3, 4) for x in range(-3, 4) if (y, x) != (0, 0)]
    rolled = [(out == np.roll(frames, shift, (1, 2))).all((1, 2, 3, 4)).sum() for shift in shifts]
    empty = (out == 0).all((1, 4))
    size, rectangle = empty.sum((1, 2)), empty.any(1).sum(1) * empty.any(2).sum(1)
    emptied = ((out == frames) | (out == 0)).all((1, 2, 3, 4)) & (size >= 16) & (size == rectangle)
    assert size[emptied].max() == 64
    rest = 3000 - emptied.sum() - sum(rolled)  # turned, or rolled not at all
    for count, expected in ((sum(rolled), 48 / 147), (emptied.sum(), 1 / 3), (rest, 1 / 3 + 1 / 147)):
        assert abs(count / 3000 - expected) < 5 * np.sqrt(2 / 9 / 3000)
    assert min(rolled) > 0


def test_nda_turns_and_empties_by_its_strength():
    strength = 2
    dot = np.zeros((1, 97, 97, 2), np.uint8)
    dot[0, 48, 88] = 1  # 40 pixels to the right of the middle
    out = many(nda(strength), 800, dot)[..., 0].squeeze(1)
    places = np.argwhere(out)
    angles = np.degrees(np.arctan2(48 - places[:, 1], places[:, 2] - 48))
    turned = np.abs(np.hypot(places[:, 1] - 48, places[:, 2] - 48) - 40) < 1
    turned &= np.abs(angles) > np.degrees(np.arctan(3 * strength / (40 - 3 * strength))) + 1  # further than a roll gets
    assert 0.95 * 15 * strength < np.abs(angles[turned]).max() < 15 * strength + 1.5
    empty = (many(nda(strength), 300, np.ones((1, 64, 64, 2), np.uint8)) == 0).all((1, 4))
    size, rectangle = empty.sum((1, 2)), empty.any(1).sum(1) * empty.any(2).sum(1)
    assert size[size == rectangle].max() == (8 * strength) ** 2  # turned, the corners are empty


def test_time_shift_lets_empty_frames_in_at_either_end():
    nothing = np.zeros_like(FRAMES)
    outcomes = [np.concatenate([nothing, FRAMES, nothing])[start : start + 3] for start in range(1, 6)]
    equally_often(many(time_shift(2), 2500), outcomes)


def test_time_shift_may_leave_nothing():
    out = many(time_shift(9), 400)
    assert any(not frames.any() for frames in out)


def test_cutout_empties_one_square_in_all_frames():
    corners = [(y, x) for y in range(4) for x in range(5)]  # the pixel below and to the right of the centre
    outcomes = []
    for y, x in corners:
        outcomes.append(FRAMES.copy())
        outcomes[-1][:, max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1] = 0
    equally_often(many(cutout(2), 10000), outcomes)


@pytest.mark.parametrize("name", NOTHING)
def test_without_strength_nothing_changes(name):
    frames = FRAMES // 256  # as the counts of up to 65,535 would need many rounds of event_drop
    np.testing.assert_array_equal(NOTHING[name](jax.random.key(0), jnp.asarray(frames)), frames)


def test_event_drop_keeps_a_binomial_part_of_each_count():
    # For u ~ U(0, 1), Binomial(n, 1 - u) is uniform on 0 to n: so is each count, and so is the sum of all, if all share
    # one u and are independent given it.
    counts = np.array([0, 3, 1, 0, 5, 2], np.uint8).reshape(1, 1, 3, 2)
    out = many(event_drop(1), 12000, counts).reshape(-1, 6)
    for kept, count in [*zip(out.T, counts.ravel(), strict=True), (out.sum(1), 11)]:
        equally_often(kept, np.arange(count + 1))


def test_event_drop_of_counts_beyond_8_bits_drops_half_of_the_rate_on_average():
    counts = np.array([[0, 700], [40, 0]], np.uint16).reshape(1, 1, 2, 2)
    out = many(event_drop(0.5), 2000, counts)
    share = out.sum((1, 2, 3, 4)) / 740
    deviation = np.sqrt(0.25 / 12 + 0.2 / 740)  # of u ~ U(0, 1/2), and of the events given u: E u(1 - u) < 0.2
    assert out.dtype == np.uint16 and (out <= counts).all()
    assert abs(share.mean() - 0.75) < 5 * deviation / np.sqrt(2000)
    assert share.min() < 0.55 and share.max() > 0.95
    assert share.min() > 0.5 - 5 * np.sqrt(0.25 / 740)


def test_recordings_of_a_batch_have_draws_of_their_own_and_none_needs_the_others():
    keys = jax.random.split(jax.random.key(1), 3)
    frames = np.stack([FRAMES // 256, FRAMES // 8192, np.zeros_like(FRAMES)])  # unequal numbers of rounds
    together = np.asarray(jax.jit(jax.vmap(event_drop(0.7)))(keys, frames))
    for number in range(3):
        alone = event_drop(0.7)(keys[number], jnp.asarray(frames[number]))
        np.testing.assert_array_equal(alone, together[number])
    twice = many(event_drop(0.7), 2, frames[0])
    assert not np.array_equal(*twice)


def test_event_drop_is_the_same_where_64_bit_types_are_on(float64):
    wide = np.asarray(event_drop(0.7)(jax.random.key(0), jnp.asarray(FRAMES // 256)))
    with jax.enable_x64(False):
        np.testing.assert_array_equal(event_drop(0.7)(jax.random.key(0), jnp.asarray(FRAMES // 256)), wide)


@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    dtype=st.sampled_from([jnp.uint8, jnp.uint16]),
    strength=st.integers(0, 9),
    rate=st.floats(0, 1),
)
@settings(max_examples=10, deadline=None)
def test_shape_and_dtype_stay(shape, dtype, strength, rate):
    frames = jax.ShapeDtypeStruct((*shape, 2), dtype)
    kinds = flip(), cutout(min(strength, *shape[1:])), roll(strength), time_shift(strength), event_drop(rate)
    kinds += rotate(strength), nda(strength)
    for augmentation in kinds:
        out = jax.eval_shape(augmentation, jax.random.key(0), frames)
        assert (out.shape, out.dtype) == (frames.shape, frames.dtype)


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan")])
def test_a_rate_that_is_no_fraction_is_named(rate):
    with pytest.raises(InputError, match=r"event_drop\(.*\): expected a number from 0 to 1"):
        event_drop(rate)
