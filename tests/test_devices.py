"""Devices: eight train as one does, each on its own part of a batch, and those that do not fit are refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS
from sealkd_jax.models import create_student
from sealkd_jax.parallel.sharding import DATA_AXIS, Parallel, pick_devices
from sealkd_jax.training import on_devices, prepare, train
from tests.helpers.devices import first_devices
from tests.helpers.small_students import make_student
from tests.helpers.small_training import CLASSES, make_dataset, make_network, make_plan, make_spec, one_device

STEPS = 4


def numbered(number):
    """That method of `METHODS` as one: `number` may be traced, so that one compiled program serves them all."""

    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        def branch(chosen):
            return lambda: chosen(student_logits, teacher_logits, labels, progress=progress, axis_name=axis_name)[0]

        return jax.lax.switch(number, [branch(chosen) for chosen in METHODS.values()]), {}

    return method


def trained_by_each(parallel: Parallel) -> dict:
    """What every method makes of one network with BatchNorm in an epoch of `STEPS` steps, in float64."""
    dataset = make_dataset(examples=16 * STEPS)
    network, spec = make_network(dtype=jnp.float64, param_dtype=jnp.float64), make_spec(batch_size=16, epochs=1)
    plan = replace(make_plan(), network=network, spec=spec)
    teacher = jnp.asarray(2 * np.random.default_rng(0).normal(size=(16 * STEPS, CLASSES)))
    data = on_devices(dataset.train, parallel)._replace(teacher_logits=teacher)
    state, key = prepare(plan, dataset, parallel).begin(0)

    def epoch(state, data, key, number):
        prepared = prepare(replace(plan, method=numbered(number)), dataset, parallel)
        return prepared.epoch(state, data, key, jnp.int32(0))

    run = parallel.compile_epoch(epoch)
    ended = {}
    for number, name in enumerate(METHODS):
        ended[name], metrics = run(parallel.put(jax.tree.map(jnp.copy, state)), data, key, jnp.int32(number))
        assert metrics["loss"].shape == (STEPS,)
    return {name: jax.tree.map(np.asarray, after) for name, after in ended.items()}


@pytest.fixture(scope="module")
def by_one():
    with jax.enable_x64(True):
        return trained_by_each(one_device())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_eight_devices_train_as_one_by_every_method(float64, by_one, mode):
    """Two examples on each; card couples the whole batch, so its devices must see each other's."""
    by_eight = trained_by_each(Parallel(mode, first_devices(8)))
    assert by_eight.keys() == METHODS.keys()
    for name, ended in by_eight.items():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), ended, by_one[name])
    readouts = [ended.variables.params["readout"]["kernel"] for ended in by_eight.values()]
    for number, kernel in enumerate(readouts):  # each method led elsewhere
        assert all(np.abs(kernel - other).max() > 1e-6 for other in readouts[:number])


@pytest.mark.slow
@pytest.mark.parametrize("student", ["spiking-conv", "spiking-resnet18"])
def test_each_device_computes_its_own_part_of_a_batch(student):
    """Forward and backward on four devices: a quarter of the operations for each, but for what does not grow with B."""
    network = create_student(student, CLASSES, width=0.125)
    images = jnp.zeros((32, 8, 8, 1))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)

    def operations(parallel):
        def gradient(variables, images):
            def loss(params):
                return network.train(variables._replace(params=params), images, timesteps=3)[0].sum()

            images = images[parallel.constrain_batch(jnp.arange(len(images)))]
            return jax.grad(loss)(variables.params)

        return parallel.compile(gradient).lower(variables, images).compile().cost_analysis()["flops"]

    assert operations(Parallel("jit", first_devices(4))) < 1.4 / 4 * operations(one_device())


@pytest.mark.slow
@pytest.mark.parametrize(("student", "remat"), [("spiking-conv", "spikes"), ("spiking-resnet18", "full")])
def test_what_is_computed_again_needs_nothing_of_other_devices(student, remat):
    """Devices exchange the sums of BatchNorm and of the gradients, and no examples."""
    network, variables, images = make_student(student, 8, batch=8, width=1 / 16, remat=remat)
    parallel = Parallel("jit", first_devices(2))

    def gradient(variables, images):
        def loss(params):
            return network.train(variables._replace(params=params), images, timesteps=2)[0].sum()

        return jax.grad(loss)(variables.params)

    images = jax.device_put(images, NamedSharding(parallel.replicated.mesh, PartitionSpec(DATA_AXIS)))
    text = parallel.compile(gradient).lower(parallel.put(variables), images).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text


@pytest.mark.parametrize(
    ("count", "batch_size", "words"),
    [
        (9, 72, "devices 9: expected 1 to 8"),
        (0, 8, "devices 0: expected 1 to 8"),
        (3, 64, "batch_size 64: 3 devices do not divide it; the nearest that fits is 63"),
        (8, 3, "nearest that fits is 8"),
    ],
)
def test_devices_that_do_not_fit_are_named(count, batch_size, words):
    first_devices(8)
    with pytest.raises(InputError, match=words):
        pick_devices(count, batch_size)


def test_a_batch_that_the_devices_do_not_divide_is_refused_not_cut(tmp_path):
    parallel = Parallel("pmap", first_devices(3))
    plan = make_plan()
    with pytest.raises(InputError, match="batch_size 8: 3 devices do not divide it"):
        train(plan, make_dataset(), tmp_path, parallel)
    assert len(parallel.for_batch_size(9).devices) == 3 and len(parallel.for_batch_size(8).devices) == 1
