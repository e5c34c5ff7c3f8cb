"""Teachers from any library: what they are shown, what they may return, and how they are named and kept."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.data import Dataset, Split, augment, parse_augmentation, take
from sealkd_jax.errors import InputError
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.commands import precompute, teacher
from sealkd_jax.programs.logits import own_logits
from sealkd_jax.programs.options import DistillOptions
from sealkd_jax.programs.outside_teachers import outside_teacher
from sealkd_jax.teachers import FunctionTeacher, function_views, load_function, view_batches, write_logits
from sealkd_jax.teachers.own_file import Place, parse_place
from tests.helpers.small_training import make_dataset

DATA = make_dataset(examples=20)
CROP = parse_augmentation("crop(1)")
THIRDS = """
import numpy as np

def logits(images):
    thirds = images.reshape(len(images), 3, -1).astype(np.float32)
    return thirds.mean(-1) / 10
"""


def thirds(images):
    return images.reshape(len(images), 3, -1).astype(np.float32).mean(-1) / 10


def view_of(dataset, k, seed=5):
    """View k of all images at once, as the student makes it."""
    images = jnp.asarray(take(dataset.train.images, range(len(dataset.train.labels))))
    return np.asarray(augment(CROP, images, seed=seed, view=k, index=jnp.arange(len(images))))


def write(directory, text, name="mine.py"):
    (directory / name).write_text(text)
    return Place(directory / name, "logits")


# ---- what it is shown


@pytest.mark.parametrize("dataset", [DATA, DATA.on_demand()], ids=["in memory", "on demand"])
def test_it_sees_the_students_views_in_full_batches(dataset):
    batches = view_batches(dataset.train, CROP, seed=5, batch_size=8)
    for k in range(3):
        shown = list(batches(k))
        assert [batch.shape for batch in shown] == [(8, 6, 6, 1)] * 3 and shown[0].dtype == np.uint8
        np.testing.assert_array_equal(np.concatenate(shown)[:20], view_of(DATA, k))
    assert not np.array_equal(view_of(DATA, 1), view_of(DATA, 2))


def test_its_logits_and_features_are_those_of_each_view():
    calls = []

    def function(images):
        calls.append(len(images))
        images += 0  # its own array, which it may write to
        return thirds(images), images.reshape(len(images), -1)

    taught = FunctionTeacher("mine", function, "", 3)
    view = function_views(taught, DATA.train, CROP, seed=5, batch_size=8)
    for k in (0, 2):
        outputs = view(k)
        np.testing.assert_allclose(outputs.logits, thirds(view_of(DATA, k)), rtol=1e-6)
        np.testing.assert_array_equal(outputs.features, view_of(DATA, k).reshape(20, -1))
    assert calls == [8] * (3 + 3 + 3)  # tried out with three calls, then three batches for each view


def test_of_several_processes_one_calls_it_and_all_keep_step(monkeypatch):
    monkeypatch.setattr("sealkd_jax.teachers.views.is_main_process", lambda: False)
    taught, steps = FunctionTeacher("mine", lambda images: 1 / 0, "", 3), []
    view = function_views(taught, DATA.train, CROP, seed=5, batch_size=8, on_batch=lambda: steps.append(1))
    assert view(1).logits.size == 0 and len(steps) == 3


def test_frames_of_events_are_shown_as_they_are():
    rng = np.random.default_rng(0)
    splits = [Split(rng.integers(0, 900, (6, 4, 5, 5, 2)).astype(np.uint16), np.arange(6) % 2) for _ in range(3)]
    splits = [Split(images, labels.astype(np.int32)) for images, labels in splits]
    dataset = Dataset("events", *splits, ("a", "b"))

    def function(images):
        assert images.shape == (4, 4, 5, 5, 2) and images.dtype == np.uint16
        return images.sum((2, 3), dtype=np.float32)  # at each timestep

    view = function_views(
        FunctionTeacher("mine", function, "", 2, timesteps=4),
        dataset.train,
        lambda key, image: image,
        seed=0,
        batch_size=4,
    )
    np.testing.assert_array_equal(view(0).logits, splits[0].images.sum((2, 3)))


# ---- what it may not do


def random_numbers(images, rng=np.random.default_rng(0)):  # noqa: B008
    return rng.normal(size=(len(images), 3))


def batch_norm(images):
    logits = thirds(images)
    return (logits - logits.mean(0)) / logits.std(0)


def changing(images, calls=[]):  # noqa: B006
    calls.append(1)
    return thirds(images) if len(calls) < 5 else thirds(images)[:, None].repeat(2, 1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (random_numbers, "two calls with the same 8 images gave other logits, by .* evaluation mode"),
        (batch_norm, "the logits of an image changed with the other images of the batch, by .* BatchNorm"),
        (lambda images: np.full((len(images), 3), 1 / 3), "returned probabilities: .* return the logits before"),
        (lambda images: thirds(images)[:, :2], r"returned logits \[8, 2\]; expected .* the data have 3 classes"),
        (lambda images: thirds(images)[:5], r"for images uint8 \[8, 6, 6, 1\] it returned logits \[5, 3\]; expected"),
        (
            lambda images: thirds(images)[:, None].repeat(4, 1),
            r"returned logits \[8, 4, 3\]; expected .* or \[8, 2, 3\]",
        ),
        (changing, "returned .* for a batch, and .* for the first; expected the same"),
        (lambda images: thirds(images) * np.nan, "returned logits with NaN or infinity; expected finite ones"),
        (lambda images: {"logits": thirds(images)}, "returned logits of type dict, which cannot be converted"),
        (lambda images: None, "returned logits of type NoneType, which cannot be converted"),
        (lambda images: [[1, 2], [3]], "returned logits of type list, which cannot be converted"),
        (lambda images: (thirds(images), thirds(images)[:3]), r"returned features \[3, 3\]; expected \[8, F\]"),
        (lambda images: 1 / 0, "it raised ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(function, words):
    taught = FunctionTeacher("mine.py:logits", function, "", 3, timesteps=2)
    view = function_views(taught, DATA.train, CROP, seed=5, batch_size=8)
    with pytest.raises(InputError, match=f"^mine.py:logits: .*{words}") as caught:
        view(0)
    assert "\n" not in str(caught.value)


def test_one_timestep_is_none():
    taught = FunctionTeacher("mine", lambda images: thirds(images)[:, None], "", 3)
    assert taught(DATA.train.images[:4]).logits.shape == (4, 3)


# ---- its file


def test_only_a_python_file_with_a_function_is_one():
    assert parse_place("a/b.py:logits") == Place(Path("a/b.py"), "logits")
    assert parse_place(r"C:\nets\vit.py:logits") == Place(Path(r"C:\nets\vit.py"), "logits")
    for other in (
        "npz:mine.npz",
        "folder:pictures.py",
        "mine.py",
        "mine.py:",
        "mine.py:a.b",
        "onnx:net.onnx",
        "resnet18",
    ):
        assert parse_place(other) is None


def test_its_fingerprint_is_of_the_text_the_version_and_the_classes(tmp_path):
    digests = {
        text: load_function(write(tmp_path, THIRDS + text), DATA).digest
        for text in ("", "\n# another text", "\nVERSION = 1", "\nVERSION = 2", "\nCLASSES = ['a', 'b', 'c']")
    }
    assert len(set(digests.values())) == len(digests)
    os.environ["A_VERSION"] = "1"  # the same text, and another version
    read = "\nimport os\nVERSION = os.environ['A_VERSION']"
    one = load_function(write(tmp_path, THIRDS + read), DATA).digest
    os.environ["A_VERSION"] = "2"
    assert load_function(write(tmp_path, THIRDS + read), DATA).digest != one
    del os.environ["A_VERSION"]


def test_it_may_import_what_stands_beside_it(tmp_path):
    (tmp_path / "beside_it.py").write_text(THIRDS)
    place = write(tmp_path, "from beside_it import logits", "numpy.py")  # under the name of a library
    np.testing.assert_array_equal(load_function(place, DATA)(DATA.test.images).logits, thirds(DATA.test.images))


def test_classes_in_another_order_or_among_others_are_sorted(tmp_path):
    classes = "\nCLASSES = ('c', 'z', 'a', 'b')\n"
    other = "def logits(images): return thirds(images)[:, [2, 0, 0, 1]] - np.array([0, 9, 0, 0])"
    place = write(tmp_path, THIRDS.replace("logits(", "thirds(") + classes + other)
    np.testing.assert_allclose(load_function(place, DATA)(DATA.test.images).logits, thirds(DATA.test.images))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "mine.py: cannot be read: No such file"),
        ("import nothing_of_this_name", "mine.py: raised ModuleNotFoundError: No module named .* \\(line 1\\)"),
        ("x = 1\nraise ValueError('two\\nlines')", r"mine.py: raised ValueError: two lines \(line 2\)"),
        ("def f(:", r"mine.py: raised SyntaxError: .* \(line 1\)"),
        ("raise SystemExit(3)", r"mine.py: raised SystemExit: 3 \(line 1\)"),
        ("def logit(images): ...", "mine.py: has no function logits; did you mean logit"),
        (THIRDS + "CLASSES = 'abc'", "mine.py:logits: CLASSES: expected a list of names, got str"),
        (THIRDS + "CLASSES = ['a', 'b', 'b']", "mine.py:logits: CLASSES: b is there twice"),
        (THIRDS + "CLASSES = ['a', 'bb', 'c']", "CLASSES: 1 of the data's 3 classes are not there: b;? "),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, text, words):
    place = Place(tmp_path / "mine.py", "logits") if text is None else write(tmp_path, text)
    with pytest.raises(InputError, match=words) as caught:
        load_function(place, DATA)
    assert "\n" not in str(caught.value)


def test_the_line_that_raised_is_named(tmp_path):
    taught = load_function(write(tmp_path, "def logits(images):\n    x = 1\n    return images.no_such\n"), DATA)
    with pytest.raises(InputError, match=r"it raised AttributeError: .*no_such.* \(line 3\)"):
        taught(DATA.test.images)


# ---- the programs

OPTIONS = partial(
    replace, parse(DistillOptions, "", ["--timesteps", "2", "--batch-size", "8", "--log", "quiet"], "")[1]
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_teacher_is_kept_by_its_file_and_the_data(here):
    write(here, THIRDS + "calls = open('calls', 'a'); calls.write('x'); calls.close()")
    options = OPTIONS(teacher="mine.py:logits")
    one = outside_teacher(options, DATA)
    expected = thirds(DATA.test.images)
    np.testing.assert_allclose(one.test_logits, expected)
    assert one.test_accuracy == (expected.argmax(-1) == DATA.test.labels).mean() and not one.ours
    (kept,) = one.directory.glob("test-*.safetensors")
    before = kept.stat().st_mtime_ns
    assert outside_teacher(options, DATA.on_demand()).directory == one.directory
    assert kept.stat().st_mtime_ns == before  # found, not computed again
    assert outside_teacher(options, make_dataset(examples=24)).directory != one.directory
    write(here, THIRDS + "VERSION = 2")
    assert outside_teacher(options, DATA).directory != one.directory
    assert outside_teacher(OPTIONS(teacher="resnet18"), DATA) is None
    with pytest.raises(InputError, match=r"--scale unit: mine\.py:logits gets the pixels as they are"):
        outside_teacher(OPTIONS(teacher="mine.py:logits", scale="unit"), DATA)


@pytest.mark.slow
def test_streamed_data_give_the_same_logits(here, capsys, monkeypatch):
    write(here, THIRDS)
    images, labels = (np.concatenate([part] * 3) for part in DATA.train)
    np.savez("data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setattr("sealkd_jax.programs.progress.EVERY", 0.0)
    given = ["digits", "--dataset", "npz:data.npz", "--teacher", "mine.py:logits", "--views", "2", "--batch-size", "16"]
    found = []
    for more in ([], ["--stream"]):
        precompute.main([*given, *more, "--devices", "1"])
        (path,) = Path("runs/teachers").glob("*/logits-*.safetensors")
        found.append(path.read_bytes())
        path.unlink()
    assert found[0] == found[1]
    assert "left" in capsys.readouterr().err  # progress, with the time left


def test_evaluate_shows_its_accuracy_and_warns_near_chance(here, capsys):
    write(here, "import numpy as np\ndef logits(images): return np.eye(10)[images[:, 0, 0, 0].astype(int) % 10] * 9")
    teacher.main(["--evaluate", "--teacher", "mine.py:logits", "--devices", "1"])
    said = capsys.readouterr()
    assert said.out.startswith("mine.py:logits: test accuracy ") and "(n = 360)" in said.out
    assert "right on the test labels, no better than chance; expected images scaled as in its training" in said.err


def test_logits_that_the_writer_made_are_verified(here, capsys):
    made = write_logits("made.safetensors", thirds, DATA, augment="crop( 1 )", views=2, view_seed=5, batch_size=8)
    np.testing.assert_allclose(made.view(1), thirds(view_of(DATA, 1)), rtol=1e-6)
    options = OPTIONS(augment="crop(1)", views=2, view_seed=5)
    assert not own_logits(made.path, options, DATA).own
    assert "unverified" not in capsys.readouterr().out
    for changed, dataset, words in (
        (OPTIONS(augment="flip", views=2, view_seed=5), DATA, "made for another augmentation"),
        (OPTIONS(augment="crop(1)", views=2), DATA, "made for another view seed"),
        (options, make_dataset(examples=20, seed=1), "made for another data"),
    ):
        with pytest.raises(InputError, match=words):
            own_logits(made.path, changed, dataset)
    np.savez("own.npz", logits=made.view(0))
    assert own_logits(Path("own.npz"), options, DATA).own
    assert "unverified: no fingerprint says of which images and views" in capsys.readouterr().out


def test_the_writer_keeps_logits_per_timestep_and_features(here):
    def function(images):
        return np.stack([thirds(images), 2 * thirds(images)], 1), thirds(images)[:, :2]

    made = write_logits("made.safetensors", function, DATA, views=1, timesteps=2, batch_size=16)
    np.testing.assert_allclose(made.view(0)[:, 1], 2 * thirds(DATA.train.images))
    np.testing.assert_allclose(made.view_features(0), thirds(DATA.train.images)[:, :2])
