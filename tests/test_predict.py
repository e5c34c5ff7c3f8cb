"""A finished student and new examples: pictures, arrays and recordings, as a function and as a program."""

import csv
import io
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sealkd_jax import programs
from sealkd_jax.data.events.framing import Framing, frames
from sealkd_jax.diagnostics import accumulate
from sealkd_jax.errors import InputError
from sealkd_jax.plots.words import percent
from sealkd_jax.programs.commands import predict
from sealkd_jax.programs.examples import read_examples
from tests.helpers import event_files
from tests.helpers.compiling import jitted
from tests.helpers.finished_run import write_student
from tests.helpers.programs import refusal

ROOT = Path(__file__).parents[1]
SHAPE, T = (8, 12, 3), 3
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, *SHAPE)).astype(np.uint8)


def normalised(images, mean, std):
    return jnp.asarray((images / 255 - mean) / std, jnp.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose images are not square, and what its student says of `IMAGES`."""
    directory = tmp_path_factory.mktemp("run")
    network, variables = write_student(directory, SHAPE, "spiking-mlp", timesteps=T)
    x = normalised(IMAGES, [0.5, 0.25, 0.375], [0.2, 0.1, 0.125])
    logits = jitted(network).predict(variables, x, timesteps=T)
    return directory, np.asarray(logits), np.asarray(jax.nn.softmax(accumulate(logits)))


def test_raw_images_give_the_logits_of_normalised_ones(run):
    directory, logits, _ = run
    loaded = programs.load_run(directory)
    assert (loaded.classes, loaded.timesteps) == (("a", "b", "c"), T)
    np.testing.assert_allclose(loaded.logits(IMAGES), logits, rtol=1e-5, atol=1e-5)
    many = np.concatenate([IMAGES] * 14)  # more than a batch
    np.testing.assert_allclose(loaded.logits(many), np.tile(logits, (1, 14, 1)), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match=r"images: expected uint8 \[N, 8, 12, 3\], not normalised; got float32"):
        loaded.logits(IMAGES.astype(np.float32))


def test_files_are_predicted_in_their_order(run, tmp_path):
    directory, _, expected = run
    Image.fromarray(IMAGES[4]).save(tmp_path / "last.png")
    np.savez(tmp_path / "some.npz", x=IMAGES[:2], other=0)
    np.save(tmp_path / "more.npy", IMAGES[2:4])
    files = [tmp_path / name for name in ("last.png", "some.npz", "more.npy")]
    found = programs.predict(directory, files)
    assert found.names == tuple(
        str(tmp_path / name) for name in ("last.png", "some.npz[0]", "some.npz[1]", "more.npy[0]", "more.npy[1]")
    )
    np.testing.assert_allclose(found.probabilities, expected[:, [4, 0, 1, 2, 3]], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.answers, found.probabilities[-1].argmax(-1))
    np.testing.assert_array_equal(found.timesteps, [T] * 5)


def test_an_example_stops_at_the_first_timestep_that_is_sure_enough(run, tmp_path):
    directory, _, expected = run
    np.save(tmp_path / "a.npy", IMAGES)
    confidence = np.sort(expected.max(-1)[0])[2].item() - 1e-4  # three of five examples reach it at once
    found = programs.predict(directory, tmp_path / "a.npy", exit_at=confidence)
    sure = expected.max(-1) >= confidence
    sure[-1] = True
    np.testing.assert_array_equal(found.timesteps, sure.argmax(0) + 1)
    np.testing.assert_array_equal(found.answers, expected.argmax(-1)[sure.argmax(0), np.arange(5)])
    assert set(found.timesteps) > {1}


def test_a_picture_covers_the_image_and_its_middle_is_seen(run, tmp_path):
    """One of 24 x 36 pixels for images of 12 x 8: at half its size, rows 5 to 12."""
    directory, *_ = run
    tall = Image.fromarray(RNG.integers(0, 256, (36, 24, 3)).astype(np.uint8))
    tall.save(tmp_path / "tall.png")
    format = programs.load_run(directory).format
    (example,) = read_examples([tmp_path / "tall.png"], format)
    half = np.asarray(tall.resize((12, 18), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(example.image, half[5:13])


def test_the_code_of_the_page(run, tmp_path, monkeypatch, capsys):
    """The code of docs/predict.md, with this run in the place of its own."""
    directory, _, expected = run
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGES[0]).save("a.png")
    np.savez("new.npz", x=IMAGES[1:])
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/predict.md").read_text(), re.DOTALL)
    names = {"images": IMAGES}
    exec(code.replace("runs/digits-seal-s0", str(directory)), names)
    np.testing.assert_allclose(jax.nn.softmax(accumulate(names["logits"])), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(names["found"].probabilities, expected, rtol=1e-4, atol=1e-5)
    assert capsys.readouterr().out.startswith("a.png ")


def test_tables_csv_and_json_say_the_same(run, tmp_path, capsys):
    directory, *_ = run
    np.save(tmp_path / "a.npy", IMAGES[:3])
    found = programs.predict(directory, tmp_path / "a.npy", exit_at=0.5)

    def said(format):
        predict.main([str(directory), str(tmp_path / "a.npy"), "--exit-at", "0.5", "--format", format])
        return capsys.readouterr().out

    rows = list(csv.DictReader(io.StringIO(said("csv"))))
    read = json.loads(said("json"))
    assert read["classes"] == ["a", "b", "c"]
    table = said("table")
    for n, (row, example) in enumerate(zip(rows, read["examples"], strict=True)):
        took = int(found.timesteps[n])
        assert row["file"] == example["file"] == found.names[n]
        assert row["class"] == example["class"] == found.classes[found.answers[n]]
        assert int(row["timesteps"]) == example["timesteps"] == took
        np.testing.assert_allclose(example["probabilities"], found.probabilities[:, n], rtol=1e-6)
        assert float(row["probability"]) == pytest.approx(example["probability"], abs=1e-6)
        assert row[f"class_after_{took}"] == row["class"] and percent(example["probability"]) in table


def test_a_recording_becomes_the_frames_of_the_run(tmp_path):
    events = event_files.some_events(500, 34)
    (tmp_path / "a.bin").write_bytes(event_files.nmnist(events))
    network, variables = write_student(tmp_path, (34, 34, 2), "spiking-mlp", timesteps=2, frames=2, dataset="nmnist")
    images = frames(events, Framing(2), 34)
    np.save(tmp_path / "b.npy", images[None].astype(np.uint8))
    found = programs.predict(tmp_path, [tmp_path / "a.bin", tmp_path / "b.npy"])
    x = (images[:, None].astype(np.float32) / 255 - np.array([0.5, 0.25], np.float32)) / np.array(
        [0.2, 0.1], np.float32
    )
    expected = jax.nn.softmax(accumulate(network.predict(variables, jnp.asarray(x), timesteps=2)))
    np.testing.assert_allclose(found.probabilities, np.repeat(expected, 2, 1), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"c.png: expected a recording as those of nmnist \(.bin\)"):
        (tmp_path / "c.png").write_bytes(b"")
        programs.predict(tmp_path, tmp_path / "c.png")


def test_what_cannot_be_predicted_is_named(run, tmp_path, capsys):
    directory, *_ = run
    np.savez(tmp_path / "keys.npz", pixels=IMAGES)
    np.save(tmp_path / "floats.npy", IMAGES / 255)
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    for name in ("text.txt", "empty.png"):
        (tmp_path / name).write_text("")
    cut = (tmp_path / "floats.npy").read_bytes()[:-9]
    (tmp_path / "cut.npy").write_bytes(cut)

    def said(name, *options, run=directory):
        return refusal([str(run), str(tmp_path / name), *options], capsys, main=predict.main)

    assert "none: no finished run there" in said("text.txt", run=tmp_path / "none")
    assert "absent.png: no such file" in said("absent.png")
    assert "text.txt: expected a picture (.bmp, " in said("text.txt")
    assert "empty.png: cannot be read as a picture" in said("empty.png")
    assert "keys.npz: expected one of the keys x, x_test, images; found pixels" in said("keys.npz")
    assert "floats.npy: expected uint8 [N, 8, 12, 3], not normalised; got float64 [5, 8, 12, 3]" in said("floats.npy")
    assert "objects.npy: cannot be read" in said("objects.npy")
    assert "cut.npy: cannot be read (its header declares" in said("cut.npy")
    assert "--exit-at 2.0: expected" in said("text.txt", "--exit-at", "2")
