"""Teacher logits on disk, and that they are what an online teacher would have said."""

import hashlib
import json
import multiprocessing
import os
import struct
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sealkd_jax.data import crop, load
from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS
from sealkd_jax.models import ConvNet, Network, SpikingNet
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import (
    EpochSpec,
    compile_evaluation,
    create_optimizer,
    epoch_order,
    gather,
    init_state,
    make_epoch,
    make_step,
    on_devices,
    steps_per_epoch,
)
from sealkd_jax.training.teacher_logits import Outputs, TeacherLogits, write_teacher_logits
from sealkd_jax.weights.own import flatten
from tests.helpers.devices import first_devices

N, C, T = 6, 3, 2
PRINTS = {"teacher": "a", "data": "b"}
VIEWS = np.random.default_rng(0).normal(size=(4, N, C)).astype(np.float32)


PROBABILITIES = np.exp(VIEWS) / np.exp(VIEWS).sum(-1, keepdims=True)


def read(path, **kwargs):
    return TeacherLogits(path, **{"examples": N, "classes": C, "timesteps": T, "views": 4} | kwargs)


@pytest.mark.slow
def test_views_on_disk_equal_an_online_teacher(tmp_path):
    """Bit for bit, where the compiler rounds a computation alike in two programs: jax 0.10's does on a CPU.

    In a process as a user has it: with conftest's eight devices and few optimisations, that one does not either.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        stored, online = fresh.submit(variables_of_stored_and_online, tmp_path).result()
    tolerance = 0 if version("jaxlib").startswith("0.10.") else 1e-5
    assert stored.keys() == online.keys()
    for name, array in stored.items():
        np.testing.assert_allclose(array, online[name], rtol=0, atol=tolerance, err_msg=name)


def variables_of_stored_and_online(directory):
    """After four epochs on stored views, and after four epochs that ask the teacher at every step."""
    os.environ.pop("XLA_FLAGS", None)
    digits, parallel = load("digits"), Parallel("jit", first_devices(1))
    teacher = Network(ConvNet(10, features=(4, 8), pool=(True, True)))
    student = Network(SpikingNet(10, features=(4, 8), pool=(True, True)))
    spec = EpochSpec(crop(1), 3, views=4, batch_size=64, epochs=4, mean=digits.mean, std=digits.std)
    optimizer = create_optimizer("sgd", 0.1, weight_decay=1e-4)
    step = make_step(student, METHODS["seal"], optimizer, timesteps=2)
    data, steps = on_devices(digits.train, parallel), steps_per_epoch(spec, digits)
    image = jnp.zeros((1, 8, 8, 1))
    said_by = teacher.init(jax.random.key(7), image)

    def online(said_by):
        def step_online(state, batch, progress, key):
            logits = teacher.predict(said_by, batch.images, timesteps=1)[0]
            return step(state, batch._replace(teacher_logits=logits), progress)

        return step_online

    evaluate = compile_evaluation(teacher, spec, 1, parallel, digits.train)
    path = directory / "logits.safetensors"
    write_teacher_logits(path, lambda k: np.asarray(evaluate(said_by, np.int32(k)).logits[0]), 4, PRINTS)
    stored = read(path, examples=len(digits.train.labels), classes=10)

    def trained(step_of, logits_of):
        def epoch_fn(state, said_by, data, epoch):
            order = epoch_order(spec, len(data.labels), jax.random.key(1), epoch)
            return make_epoch(step_of(said_by), spec, steps, gather)(state, data, order, epoch, 0)

        run_epoch = parallel.compile_epoch(epoch_fn)
        state = parallel.put(init_state(student, optimizer, jax.random.key(0), image))
        for epoch in range(spec.epochs):
            state, _ = run_epoch(state, said_by, data._replace(teacher_logits=logits_of(epoch)), jnp.int32(epoch))
        return {name: np.asarray(array) for name, array in flatten(state.variables).items()}

    return trained(lambda _: step, stored.view), trained(online, lambda _: None)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(N, C), (N, T, C)])
def test_what_is_written_is_read_back_view_by_view(tmp_path, shape, dtype):
    views = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    path = tmp_path / "logits.safetensors"
    write_teacher_logits(path, views.__getitem__, 4, PRINTS, dtype)
    logits = read(path, fingerprints=PRINTS)
    assert logits.views == 4 and not logits.own
    for k in range(4):
        np.testing.assert_array_equal(logits.view(k), views[k].astype(dtype).astype(np.float32))
    np.testing.assert_array_equal(load_file(path)["logits"], views.astype(dtype))  # the library reads what we wrote
    assert list(tmp_path.iterdir()) == [path]


FEATURES = np.random.default_rng(3).normal(size=(4, N, 5)).astype(np.float32)


def test_features_stand_beside_the_logits(tmp_path):
    path = tmp_path / "logits.safetensors"
    write_teacher_logits(path, lambda k: Outputs(VIEWS[k], FEATURES[k]), 4, PRINTS)
    found = read(path, fingerprints=PRINTS)
    assert found.has_features and not found.own
    for k in range(4):
        np.testing.assert_array_equal(found.view(k), VIEWS[k])
        np.testing.assert_array_equal(found.view_features(k), FEATURES[k])
    np.testing.assert_array_equal(load_file(path)["features"], FEATURES)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match="damaged"):
        read(path, fingerprints=PRINTS)
    np.savez(tmp_path / "own.npz", logits=VIEWS[0], features=FEATURES[0])
    np.testing.assert_array_equal(read(tmp_path / "own.npz").view_features(3), FEATURES[0])
    write_teacher_logits(path, VIEWS.__getitem__, 4, PRINTS)
    assert read(path).view_features(0) is None and not read(path).has_features


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (FEATURES[:3], r"features: expected \[4, 6, F\], as many views as the logits have, got \[3, 6, 5\]"),
        (FEATURES[:, :5], r"features: expected \[4, 6, F\].*got \[4, 5, 5\]"),
        (FEATURES.astype(np.float64), "features: expected float16 or float32, got float64"),
        (np.where(FEATURES[1, 2, 3] == FEATURES, np.nan, FEATURES), "features: view 1, example 2 is NaN or infinite"),
    ],
)
def test_features_that_do_not_fit_are_refused(tmp_path, features, words):
    np.savez(tmp_path / "own.npz", logits=VIEWS, features=features)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "own.npz")


def test_a_failure_half_way_leaves_nothing(tmp_path):
    def view(k):
        if k == 2:
            raise RuntimeError("power cut")
        return VIEWS[k]

    with pytest.raises(RuntimeError, match="power cut"):
        write_teacher_logits(tmp_path / "logits.safetensors", view, 4, PRINTS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(N, C), (1, N, C), (4, N, C), (4, N, T, C)])
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_users_own_file_is_accepted_by_its_shape(tmp_path, suffix, shape):
    array = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    path = tmp_path / f"own.{suffix}"
    if suffix == "npz":
        np.savez(path, logits=array)
    else:
        save_file({"labels": np.arange(N), "logits": array}, path, metadata={"format": "pt"})  # as PyTorch's users do
    logits = read(path, fingerprints=PRINTS)
    assert logits.own
    by_view = array[None] if array.ndim == 2 else array
    for k in range(4):
        np.testing.assert_array_equal(logits.view(k), by_view[k % len(by_view)])
    assert logits.digest == f"{array.dtype} {list(by_view.shape)} {hashlib.sha256(array.tobytes()).hexdigest()}"


def test_the_same_bytes_in_another_shape_are_other_logits(tmp_path):
    """Two views, or one view of two timesteps; or the same again as a list of views."""
    array = np.random.default_rng(2).normal(size=(2, N, C)).astype(np.float32)
    digests = {}
    for name, shape in {"views": (2, N, C), "times": (1, N, 2, C), "view": (N, C), "one": (1, N, C)}.items():
        np.savez(tmp_path / name, logits=array.flat[: np.prod(shape)].reshape(shape))
        digests[name] = read(tmp_path / f"{name}.npz", views=2).digest
    assert len(set(digests.values())) == 3 and digests["view"] == digests["one"]


def test_accuracy_is_of_the_mean_over_timesteps(tmp_path):
    labels = np.array([0, 1, 2, 0, 1, 2])
    array = np.zeros((N, T, C), np.float32)
    array[np.arange(N), 0, labels] = 1
    array[:3, 1, 0] = 3  # drowns the first three: only label 0 stays right
    path = tmp_path / "own.npz"
    np.savez(path, logits=array[None])
    assert read(path).accuracy(labels) == pytest.approx(4 / 6)


def not_finite(value):
    array = VIEWS.copy()
    array[2, 4, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (VIEWS[:, :5], r"expected \[6, 3\], \[K, 6, 3\] or \[K, 6, 2, 3\].*got \[4, 5, 3\]"),
        (VIEWS[..., :2], r"got \[4, 6, 2\]"),
        (VIEWS[0, 0], r"got \[3\]"),
        (VIEWS[0, :5], r"got \[5, 3\]"),
        (np.zeros((4, N, T + 1, C), np.float32), r"got \[4, 6, 3, 3\]"),
        (VIEWS[:3], "expected 1 or 4 views, got 3; give as many"),
        (VIEWS.astype(np.float64), "expected float16 or float32, got float64"),
        (VIEWS.astype(np.int64), "got int64"),
        (not_finite(np.nan), "view 2, example 4 is NaN or infinite"),
        (not_finite(np.inf), "view 2, example 4 is NaN or infinite"),
        (not_finite(-np.inf), "for a masked class give a low one, such as -30"),
        (PROBABILITIES, r"those of view 0 are probabilities.*give the logits before the softmax, or the logarithm"),
        (PROBABILITIES[0].astype(np.float16), "those of view 0 are probabilities"),
        (np.stack([np.log(PROBABILITIES[0]), *PROBABILITIES[1:]]), "those of view 1 are probabilities"),
        (np.stack([PROBABILITIES] * T, 2), "those of view 0 are probabilities"),
        (np.eye(C, dtype=np.float32)[[0, 1, 2, 0, 1, 2]], "those of view 0 are probabilities"),  # labels
    ],
)
def test_wrong_logits_are_named(tmp_path, array, words):
    np.savez(tmp_path / "own.npz", logits=array)
    with pytest.raises(InputError, match=words):
        read(tmp_path / "own.npz")


def test_logarithms_of_probabilities_are_logits(tmp_path):
    np.savez(tmp_path / "own.npz", logits=np.log(PROBABILITIES))
    assert read(tmp_path / "own.npz").own


@pytest.mark.parametrize("key", PRINTS)
def test_logits_of_another_teacher_or_other_data_are_refused(tmp_path, key):
    path = tmp_path / "logits.safetensors"
    write_teacher_logits(path, VIEWS.__getitem__, 4, PRINTS)
    with pytest.raises(InputError, match=f"made for another {key}"):
        read(path, fingerprints=PRINTS | {key: "other"})
    write_teacher_logits(path, VIEWS.__getitem__, 4, {name: PRINTS[name] for name in PRINTS if name != key})
    with pytest.raises(InputError, match=f"made for another {key}"):
        read(path, fingerprints=PRINTS)


def test_one_view_of_ours_does_not_stand_for_all_views(tmp_path):
    path = tmp_path / "logits.safetensors"
    write_teacher_logits(path, VIEWS.__getitem__, 1, PRINTS)
    assert read(path, fingerprints=PRINTS, views=1).views == 1
    with pytest.raises(InputError, match="expected 4 views, got 1; give as many"):
        read(path, fingerprints=PRINTS)


def test_files_that_are_none_are_named(tmp_path):
    def refused(name, content, words):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read(path)

    header = json.dumps({"logits": {"dtype": "F32", "shape": [4, N, C], "data_offsets": [0, 4 * N * C * 4]}}).encode()
    refused("none.npz", None, "no such file")
    refused("none.safetensors", None, "no such file")
    refused("logits.pt", b"", r"expected a .safetensors or .npz file")
    refused("text.npz", b"hello", r"cannot be read \(.*; expected an .npz archive")
    refused("text.safetensors", b"hello", "cannot be read")
    refused("cut.safetensors", struct.pack("<Q", len(header)) + header + b"\0" * 7, "cannot be read")
    np.savez(tmp_path / "other.npz", predictions=VIEWS)
    refused("other.npz", None, "expected the key logits")
    np.savez(tmp_path / "pickled.npz", logits=np.array([{"a": 1}], object))
    refused("pickled.npz", None, "cannot be read")
    np.save(tmp_path / "single.npy", VIEWS)
    refused("single.npz", (tmp_path / "single.npy").read_bytes(), r"cannot be read \(.*; expected an .npz archive")
    np.savez(tmp_path / "whole.npz", logits=VIEWS)
    refused("cut.npz", (tmp_path / "whole.npz").read_bytes()[:-30], "cannot be read")


def test_damage_to_our_own_file_is_named_or_changes_nothing(tmp_path):
    """A bit of every byte of the header in turn, of every logit's number, and every cut."""
    path = tmp_path / "logits.safetensors"
    write_teacher_logits(path, VIEWS.__getitem__, 4, PRINTS)
    good, named = path.read_bytes(), 0
    payload = 8 + int.from_bytes(good[:8], "little")
    flipped = [good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(len(good))]
    for data in (*flipped, *(good[:length] for length in range(0, len(good), 7))):
        path.write_bytes(data)
        try:
            logits = read(path, fingerprints=PRINTS)
        except InputError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            named += 1
        else:
            for k in range(4):
                np.testing.assert_array_equal(logits.view(k), VIEWS[k])
            assert data[payload:] == good[payload:]
    assert named > len(good) - payload
