"""Step, epoch, and the loop around them."""

import gzip
import json
from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.losses import METHODS
from sealkd_jax.models import Network, Variables
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import (
    Batch,
    TrainState,
    compile_evaluation,
    create_optimizer,
    epoch_order,
    gather,
    init_state,
    make_epoch,
    make_step,
    on_devices,
    params_digest,
    prepare,
    profile_steps,
    train,
    train_seeds,
    view_batch,
)
from sealkd_jax.training.checkpoints import Checkpoints
from sealkd_jax.training.loop import first_not_finite
from sealkd_jax.training.teacher_logits import TeacherLogits
from tests.helpers.devices import first_devices
from tests.helpers.small_training import (
    CLASSES,
    Interrupted,
    TinyStudent,
    make_dataset,
    make_network,
    make_plan,
    make_spec,
    one_device,
)

pytestmark = pytest.mark.usefixtures("compiled_once")
DATASET, PLAN = make_dataset(examples=120), make_plan()

# ---- step and epoch


def test_a_step_is_the_gradient_of_the_method_and_the_optimiser(float64):
    network = make_network(dtype=jnp.float64, param_dtype=jnp.float64)
    optimizer = optax.sgd(0.5)
    images = jax.random.normal(jax.random.key(0), (8, 6, 6, 1))
    teacher = jax.random.normal(jax.random.key(1), (8, CLASSES))
    state = init_state(network, optimizer, jax.random.key(2), images)
    logits, _ = network.train(state.variables, images, timesteps=3)
    labels = jnp.where(jnp.arange(8) < 6, logits.mean(0).argmax(-1), jnp.arange(8) % CLASSES)
    step = make_step(network, METHODS["tks"], optimizer, timesteps=3)  # tks: one that depends on progress
    new, metrics = jax.jit(step)(state, Batch(images, labels, teacher), 0.25)

    def loss(params):
        logits, stats = network.train(state.variables._replace(params=params), images, timesteps=3)
        return METHODS["tks"](logits, teacher, labels, progress=0.25)[0], stats

    (value, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.variables.params)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, state.variables.params, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), new.variables.params, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), new.variables.stats, stats)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-12)
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-10)
    right, right_at_first = ((answer.argmax(-1) == labels).mean() for answer in (logits.mean(0), logits[0]))
    assert metrics["accuracy"] == right != right_at_first


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method):
    """On one batch, with a teacher that is right: the loss falls, and all its terms stay finite."""
    split = make_dataset().train
    images, labels = jnp.asarray(split.images, jnp.float32) / 255 - 0.5, jnp.asarray(split.labels)
    # The card's class has no task loss: once all is right it is left with lowering confidence.
    method = partial(METHODS["card"], task="mean") if method == "card" else METHODS[method]
    optimizer = create_optimizer("adamw", lambda count: 0.01, weight_decay=0.0)
    shapes, keys = {"in": (36, 16), "out": (16, CLASSES)}, jax.random.split(jax.random.key(0))
    params = {name: jax.random.normal(key, shapes[name]) / 2 for name, key in zip(shapes, keys, strict=True)}
    state = TrainState(Variables(params, {}), optimizer.init(params))
    step = make_step(TinyStudent(), method, optimizer, timesteps=2)
    batch = Batch(images, labels, 5 * jax.nn.one_hot(labels, CLASSES))
    _, history = jax.jit(lambda state: jax.lax.scan(lambda state, _: step(state, batch, 0.5), state, length=40))(state)
    chex.assert_tree_all_finite(history)
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > max(0.6, history["accuracy"][0])


def test_an_epoch_shows_each_example_at_most_once_in_an_order_of_its_own():
    """The step is replaced by one that writes down what it is given."""
    dataset = make_dataset(examples=21)
    spec = make_spec(view_seed=5, views=3, batch_size=4, epochs=10)
    data = on_devices(dataset.train, one_device())

    def write_down(state, batch, progress, key):
        return state, {"batch": batch, "progress": progress}

    run = jax.jit(make_epoch(write_down, spec, 5, gather))
    data = data._replace(teacher_logits=jnp.arange(21.0)[:, None])  # the teacher says the example's position
    orders = []
    for epoch in (0, 3, 4):
        taken = epoch_order(spec, 21, jax.random.key(0), epoch)
        _, seen = run(None, data, taken, jnp.int32(epoch), 0)
        order = np.asarray(seen["batch"].teacher_logits[..., 0], int)
        assert order.shape == (5, 4) and len(set(order.ravel())) == 20
        np.testing.assert_array_equal(seen["batch"].labels, dataset.train.labels[order])
        views = jnp.stack([view_batch(spec, gather(data, row), epoch % 3).images for row in order])
        np.testing.assert_allclose(seen["batch"].images, views, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(seen["progress"], (epoch + np.arange(5) / 5) / 10, rtol=1e-6)
        orders.append(tuple(order.ravel()))
    assert len(set(orders)) == 3


def test_logits_per_timestep_reach_the_loss_time_first():
    teacher = np.random.default_rng(0).normal(size=(8, 5, CLASSES)).astype(np.float32)
    data = on_devices(make_dataset(examples=8).train, one_device())._replace(teacher_logits=jnp.asarray(teacher))
    seen = view_batch(make_spec(), gather(data, jnp.array([5, 2])), 0).teacher_logits
    np.testing.assert_array_equal(seen, np.swapaxes(teacher[[5, 2]], 0, 1))


# ---- the loop


def test_training_learns_reports_each_epoch_and_is_repeatable(tmp_path):
    dataset, plan, seen = DATASET, PLAN, []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = train(plan, dataset, tmp_path / "a", one_device(), on_epoch=seen.append)
    again = train(plan, dataset, tmp_path / "b", one_device())
    assert params_digest(first.variables) == params_digest(again.variables)
    other = replace(plan, seed=1)
    (tmp_path / "c").mkdir()
    assert params_digest(train(other, dataset, tmp_path / "c", one_device()).variables) != params_digest(
        first.variables
    )

    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert lines == seen == first.records
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert first.best["val_accuracy"] == max(line["val_accuracy"] for line in lines) > 0.9
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    dataset, plan = DATASET, PLAN
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()

    def stop(record):
        if record["epoch"] in (1, 3):
            raise Interrupted

    whole = train(plan, dataset, tmp_path / "whole", one_device())
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(plan, dataset, tmp_path / "parts", one_device(), on_epoch=stop)
    # a crash between the line and the checkpoint, and half a line
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 4}) + '\n{"epoch": 5, "lo')
    parts = train(plan, dataset, tmp_path / "parts", one_device())
    assert params_digest(parts.variables) == params_digest(whole.variables)
    assert [record["epoch"] for record in parts.records] == [1, 2, 3, 4]
    assert [r["loss"] for r in parts.records] == [r["loss"] for r in whole.records]
    finished = train(plan, dataset, tmp_path / "parts", one_device(), on_epoch=stop)  # nothing is left to do
    assert params_digest(finished.variables) == params_digest(whole.variables)


def test_a_run_that_goes_nan_names_the_term_and_keeps_the_last_good_checkpoint(tmp_path):
    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        loss, terms = METHODS["none"](student_logits, teacher_logits, labels)
        bad = jnp.where(progress > 0.59, jnp.nan, 1.0)  # from the third epoch of four, its third step of five
        return loss + bad, terms | {"made up": bad}

    with pytest.raises(
        FloatingPointError, match=r"epoch 3, step 3: made up is nan; training stopped with the checkpoint of epoch 2"
    ):
        train(make_plan(method), make_dataset(), tmp_path, one_device())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.epochs == [2, 1]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_parameters_that_the_last_update_made_infinite_are_not_kept(tmp_path):
    plan = make_plan(learning_rate=3e38, weight_decay=10.0, warmup_epochs=0)
    plan = replace(plan, spec=plan.spec._replace(batch_size=40, epochs=1))
    with pytest.raises(
        FloatingPointError, match=r"epoch 1, after step 1: the norm of all parameters is .* with no checkpoint"
    ):
        train(plan, make_dataset(), tmp_path, one_device())
    assert not (tmp_path / "metrics.jsonl").read_text()


def test_what_came_first_is_named_and_parameters_where_nothing_else_is_wrong():
    fine = {"loss": np.ones(5), "terms": {"ce": np.ones(5)}, "grad_norm": np.ones(5), "variables_norm": np.ones(1)}
    assert first_not_finite(fine) is None
    late, later = (np.where(np.arange(5) < n, 1, np.nan) for n in (2, 3))
    assert first_not_finite(fine | {"loss": later, "grad_norm": late}) == "step 3: gradient is nan"
    assert first_not_finite(fine | {"terms": {"ce": later}, "variables_norm": late[-1:]}) == "step 4: ce is nan"
    in_chunks = {"variables_norm": np.array([1, np.inf])}
    assert first_not_finite(fine | in_chunks) == "after step 5: the norm of all parameters is inf"


def test_a_gradient_that_is_not_finite_is_named(tmp_path):
    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        return jnp.sqrt(jnp.abs(student_logits - student_logits)).sum(), {"fine": jnp.zeros(())}

    with pytest.raises(FloatingPointError, match="epoch 1, step 1: gradient is nan"):
        train(make_plan(method), make_dataset(), tmp_path, one_device())


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    plan = make_plan()
    plan = replace(plan, spec=plan.spec._replace(batch_size=41))
    with pytest.raises(InputError, match="batch_size 41: expected 1 to 40"):
        train(plan, make_dataset(), tmp_path, one_device())
    assert list(tmp_path.iterdir()) == []


def test_teacher_logits_of_another_split_are_refused(tmp_path):
    """Indices beyond their end would silently take the last ones."""
    np.savez(tmp_path / "own.npz", logits=np.zeros((41, CLASSES), np.float32))
    teacher = TeacherLogits(tmp_path / "own.npz", examples=41, classes=CLASSES, timesteps=2, views=2)
    for dataset in (make_dataset(), make_dataset().on_demand()):
        with pytest.raises(AssertionError, match="41"):
            train(make_plan("seal"), dataset, tmp_path, one_device(), teacher_logits=teacher)


# ---- what is traced, and what may be changed


@pytest.mark.parametrize("mode", ["jit", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("seeds", "pmap"))])
def test_a_training_traces_its_step_and_its_evaluation_once(tmp_path, mode):
    chex.clear_trace_counter()

    class OnceEvaluated(Network):
        observe = chex.assert_max_traces(Network.observe, n=1)

    def run(traces):
        plan = make_plan(chex.assert_max_traces(METHODS["none"], n=traces))  # a step calls its loss once
        plan = replace(plan, network=OnceEvaluated(plan.network.module))
        if mode == "seeds":
            train_seeds(plan, [0, 1], make_dataset(), one_device(), at_once=2)
        else:
            train(plan, make_dataset(), tmp_path / str(traces), Parallel(mode, first_devices(2)))

    run(traces=1)
    chex.clear_trace_counter()
    with pytest.raises(AssertionError, match="traced > 0 times"):
        run(traces=0)


@pytest.mark.slow
def test_what_is_evaluated_reported_and_resumed_is_the_average(float64, tmp_path):
    """Training itself is as without. The average is that of the weights after each step, by powers of the decay."""
    dataset, network = make_dataset(), make_network(dtype=jnp.float64, param_dtype=jnp.float64)
    plan = replace(make_plan(learning_rate=0.5), network=network)
    prepared, data = prepare(plan, dataset, one_device()), on_devices(dataset.train, one_device())
    state, key = prepared.begin(plan.seed)
    after, averages, step = [], [], jax.jit(prepared.step)
    for epoch in range(plan.spec.epochs):
        for row in epoch_order(plan.spec, 40, key, epoch):
            state, _ = step(state, view_batch(plan.spec, gather(data, row), epoch % 2), 0.0)
            after.append(state.variables)
        averages.append(jax.tree.map(lambda *steps: np.average(steps, 0, 0.5 ** np.arange(len(steps))[::-1]), *after))

    plan = replace(plan, ema=0.5)

    def stop(record):
        if record["epoch"] == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(plan, dataset, tmp_path, one_device(), on_epoch=stop)
    found = train(plan, dataset, tmp_path, one_device())
    assert found.best["epoch"] == 4
    chex.assert_trees_all_close(found.variables, averages[-1], rtol=0, atol=1e-10)
    with pytest.raises(AssertionError):  # the average is another than the last parameters
        chex.assert_trees_all_close(found.variables.params, state.variables.params, rtol=0, atol=1e-3)
    evaluate = compile_evaluation(plan.network, plan.spec, plan.timesteps, one_device(), dataset.validation)
    logits = evaluate(found.variables).logits
    assert accuracy_by_timestep(logits, dataset.validation.labels)[-1] == found.best["val_accuracy"]
    (seeded,) = train_seeds(plan, [plan.seed], dataset, one_device())
    chex.assert_trees_all_close(seeded.variables, found.variables, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_a_profile_has_the_steps_by_name(tmp_path):
    profile_steps(make_plan(), make_dataset(), one_device(), tmp_path, steps=2)
    (trace,), (profile,) = (list(tmp_path.rglob(name)) for name in ("perfetto_trace.json.gz", "*.xplane.pb"))
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert [event["args"]["step_num"] for event in events if event.get("name") == "train"] == ["0", "1"]
    assert all(scope in profile.read_bytes() for scope in (b"optimizer", b"loss"))
