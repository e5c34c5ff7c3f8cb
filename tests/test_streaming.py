"""Splits that are read while training goes on: the same batches, and the same training, as from memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealkd_jax.data import Dataset, OnDemand, Split, stream
from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import (
    compile_evaluation,
    count_activity,
    epoch_order,
    feed,
    firing_rates,
    gather,
    on_devices,
    params_digest,
    prepare,
    train,
    view_batch,
)
from sealkd_jax.training.checkpoints import Checkpoints
from sealkd_jax.training.feed import compile_epoch, join_metrics
from sealkd_jax.training.teacher_logits import TeacherLogits
from tests.helpers.devices import first_devices
from tests.helpers.small_training import (
    CLASSES,
    Interrupted,
    make_dataset,
    make_network,
    make_plan,
    make_spec,
    one_device,
)

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def small_chunks(monkeypatch):
    """Two batches of eight 6x6 images per chunk, so that the splits of `make_dataset` take several."""
    monkeypatch.setattr(feed, "CHUNK_BYTES", 2 * 8 * 36)


@given(examples=st.integers(1, 300), size=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_a_stream_gives_the_examples_of_an_order(examples, size, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (50, 2, 2, 1)).astype(np.uint8)
    labels, order = np.arange(50, dtype=np.int32), rng.integers(0, 50, examples)
    blocks = list(stream(Split(OnDemand(images), labels), order, size))
    assert [len(block.labels) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert 0 < len(blocks[-1].labels) <= size
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), images[order])
    np.testing.assert_array_equal(np.concatenate([block.labels for block in blocks]), order)
    np.testing.assert_array_equal(np.concatenate([block.position for block in blocks]), order)


def test_a_stream_goes_on_where_another_stopped_and_is_shared_out_over_processes():
    """Both follow from the order alone: its rest, or one process's columns of the batches."""
    images = np.random.default_rng(0).integers(0, 256, (64, 2, 2, 1)).astype(np.uint8)
    split = Split(OnDemand(images), np.arange(64, dtype=np.int32))
    order = np.random.default_rng(1).permutation(64).reshape(8, 8)  # [steps, B]
    whole = np.stack([block.images for block in stream(split, order.reshape(-1), 8)])
    rest = np.stack([block.images for block in stream(split, order[3:].reshape(-1), 8)])
    np.testing.assert_array_equal(rest, whole[3:])
    shares = [
        np.stack([block.images for block in stream(split, order[:, 4 * k : 4 * k + 4].reshape(-1), 4)])
        for k in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(shares, 1), whole)


def test_a_damaged_image_ends_the_stream_with_its_own_error():
    class Broken(OnDemand):
        def read(self, index):
            if 7 in index:
                raise ValueError("record 7 is damaged")
            return super().read(index)

    split = Split(Broken(np.zeros((10, 2, 2, 1), np.uint8)), np.zeros(10, np.int32))
    with pytest.raises(ValueError, match="record 7 is damaged"):
        list(stream(split, np.arange(10), 4))


def test_the_statistics_of_a_data_set_are_the_same_either_way():
    dataset = make_dataset()
    read = dataset.on_demand()
    assert read.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(read.mean, dataset.mean)
    np.testing.assert_array_equal(read.std, dataset.std)


@pytest.mark.slow
def test_both_ways_give_a_step_the_same_batches(small_chunks):
    """The loss gives the batch itself as its terms."""
    dataset, spec = make_dataset(examples=45), make_spec()
    teacher = np.random.default_rng(0).normal(size=(45, 2, CLASSES)).astype(np.float32)

    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        terms = {"teacher": teacher_logits, "labels": labels, "progress": progress}
        return METHODS["none"](student_logits, None, labels)[0], terms

    for epoch in (0, 3):
        seen = []
        for way in (dataset, dataset.on_demand()):
            prepared = prepare(make_plan(method), way, one_device())
            state, _ = prepared.begin(0)
            run = compile_epoch(prepared, way.train, one_device())
            *_, (_, parts) = run(one_device().put(state), teacher, jax.random.key(4), epoch)
            seen.append(join_metrics(parts)["terms"])
        jax.tree.map(np.testing.assert_array_equal, *seen)
        order = np.asarray(epoch_order(spec, 45, jax.random.key(4), epoch))
        assert order.shape == (5, 8)
        np.testing.assert_array_equal(seen[0]["labels"], dataset.train.labels[order])
        np.testing.assert_array_equal(seen[0]["teacher"], np.swapaxes(teacher[order], 1, 2))


@pytest.mark.parametrize(
    ("mode", "devices"),
    [("jit", 1), *(pytest.param(mode, 4, marks=pytest.mark.slow) for mode in ("jit", "pmap"))],
)
def test_training_from_disk_is_training_from_memory(mode, devices, small_chunks, tmp_path, float64):
    dataset, plan = make_dataset(), make_plan("seal")
    plan = replace(plan, network=make_network(dtype=jnp.float64, param_dtype=jnp.float64))
    logits = tmp_path / "logits.npz"
    np.savez(logits, logits=np.random.default_rng(0).normal(size=(2, 40, CLASSES)).astype(np.float32))
    teacher = TeacherLogits(logits, examples=40, classes=CLASSES, timesteps=2, views=2)
    parallel = Parallel(mode, first_devices(devices))
    ways = {
        name: train(plan, way, tmp_path / name, parallel, teacher_logits=teacher)
        for name, way in (("memory", dataset), ("disk", dataset.on_demand()))
    }
    for here, there in zip(*(jax.tree.leaves(way.variables) for way in ways.values()), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-10)
    assert [r["val_accuracy"] for r in ways["memory"].records] == [r["val_accuracy"] for r in ways["disk"].records]


@pytest.mark.slow
def test_a_run_that_is_stopped_within_an_epoch_ends_as_one_that_is_not(small_chunks, tmp_path):
    """Five steps an epoch in three chunks; stopped after the first chunk, after the second, and after an epoch."""
    dataset, plan, calls = make_dataset().on_demand(), make_plan(), []

    def run(name, stop_at=(), way=dataset):
        def on_chunk():
            calls.append(name)
            if len(calls) in stop_at:
                raise Interrupted

        return train(plan, way, tmp_path / name, one_device(), on_chunk=on_chunk)

    whole = run("whole")
    assert len(calls) == 2 * 4  # between the chunks of four epochs
    calls.clear()
    for done in ([1], [1], [2, 1]):  # epochs that have a checkpoint after each stop
        with pytest.raises(Interrupted):
            run("parts", stop_at=(1, 2, 3))
        with Checkpoints(tmp_path / "parts" / "checkpoints") as checkpoints:
            assert checkpoints.epochs == done
        if done == [1]:
            assert (tmp_path / "parts" / "metrics.jsonl").read_text() == ""
    with pytest.raises(InputError, match="parts: stopped within an epoch of streamed data; stream the data to go on"):
        run("parts", way=make_dataset())
    parts = run("parts")
    assert len(calls) == 2 * 4  # no chunk was trained on twice
    assert params_digest(parts.variables) == params_digest(whole.variables)
    for record, expected in zip(parts.records, whole.records, strict=True):
        assert {**record, "seconds": 0, "examples_per_second": 0} == {
            **expected,
            "seconds": 0,
            "examples_per_second": 0,
        }


@pytest.mark.slow
def test_evaluations_are_the_same_either_way(small_chunks):
    dataset, plan, parallel = make_dataset(), make_plan(), one_device()
    variables = plan.network.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    for view, observe in (((), count_activity), ((np.int32(1),), firing_rates)):
        ways = [
            compile_evaluation(plan.network, plan.spec, 2, parallel, way.train, observe)(variables, *view)
            for way in (dataset, dataset.on_demand())
        ]
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *ways)


def test_frames_reach_the_network_time_first():
    """Recordings `[N, T, H, W, 2]` become batches `[T, B, H, W, 2]`; silence stays 0 after normalisation."""
    frames = np.random.default_rng(0).poisson(0.3, (9, 3, 4, 4, 2)).astype(np.uint16)
    split = Split(frames, np.zeros(9, np.int32))
    dataset = Dataset("events", split, split, split, ("a", "b"))
    spec = make_spec(augmentation=lambda key, image: image, mean=dataset.mean, std=dataset.std)
    batch = view_batch(spec, gather(on_devices(split, one_device()), jnp.array([4, 2])), 1).images
    expected = frames[[4, 2]] / 255 / (frames / 255).std((0, 1, 2, 3))
    np.testing.assert_allclose(batch, np.swapaxes(expected, 0, 1), rtol=1e-6)
