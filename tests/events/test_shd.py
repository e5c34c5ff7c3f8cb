"""Spiking Heidelberg Digits: a small file as published, what is damaged, and networks for its frames."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.data import Framing, load
from sealkd_jax.errors import InputError
from sealkd_jax.models import create_student, create_teacher
from sealkd_jax.programs.presets import PRESETS


def write(root, part, count, seed=0):
    rng, ragged = np.random.default_rng(seed), [h5py.vlen_dtype(kind) for kind in (np.float16, np.uint16)]
    spikes = [(np.sort(rng.uniform(0, 1, n)).astype(np.float16), rng.integers(0, 700, n)) for n in range(5, 5 + count)]
    with h5py.File(root / f"shd_{part}.h5", "w") as file:
        for name, kind, column in (("times", ragged[0], 0), ("units", ragged[1], 1)):
            data = file.create_dataset(f"spikes/{name}", (count,), kind)
            for number, each in enumerate(spikes):
                data[number] = each[column]
        file["labels"] = np.arange(count) % 20
        file["extra/keys"] = np.array([f"digit {number}" for number in range(20)], "S9")
    return spikes


def test_spikes_are_counted_by_channel_and_time(tmp_path):
    write(tmp_path, "train", 200)
    spikes = write(tmp_path, "test", 20, 1)
    data = load("shd", data_dir=tmp_path, framing=Framing(4, size=700), cache_dir=tmp_path / "cache")
    assert data.train.images.shape == (180, 4, 1, 700, 2) and data.classes[3] == "digit 3"
    for image, label, (times, units) in zip(*data.test, spikes, strict=True):
        assert image[..., 0].sum() == 0 and label == len(times) - 5
        np.testing.assert_array_equal(image.sum((0, 1))[:, 1], np.bincount(units, minlength=700))
    small = load("shd", data_dir=tmp_path, framing=Framing(4), cache_dir=tmp_path / "cache")
    assert small.test.images.shape == (20, 4, 1, 140, 2)


@pytest.mark.parametrize("how", ["cut", "unit", "labels", "keys"])
def test_damage_is_named(tmp_path, how):
    write(tmp_path, "train", 200)
    write(tmp_path, "test", 20, 1)
    path = tmp_path / "shd_test.h5"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    else:
        with h5py.File(path, "r+") as file:
            if how == "unit":
                file["spikes/units"][3] = np.full(8, 700)
            elif how == "labels":
                file["labels"][2] = 20
            else:
                del file["extra/keys"]
    words = "recording 3: event 0: event 0 has x 700; expected 0 to 699" if how == "unit" else "cannot be read"
    with pytest.raises(InputError, match=f"shd_test.h5: {words}"):
        load("shd", data_dir=tmp_path, framing=Framing(4), cache_dir=tmp_path / "cache")


def test_the_presets_networks_take_frames_of_one_row():
    preset = PRESETS["shd"]
    student = create_student(preset.distill.student, 20, neuron=preset.distill.neuron)
    teacher = create_teacher(preset.teacher.teacher, 20, width=preset.teacher.teacher_width)
    frames = jax.ShapeDtypeStruct((20, 3, 1, 140, 2), jnp.float32)
    for network, timesteps in ((student, 20), (teacher, 1)):
        variables = jax.eval_shape(network.init, jax.random.key(0), frames)
        logits = jax.eval_shape(lambda v, x, n=network, t=timesteps: n.predict(v, x, timesteps=t), variables, frames)
        assert logits.shape == (timesteps, 3, 20)
