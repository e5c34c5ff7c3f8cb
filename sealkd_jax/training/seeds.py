"""Many seeds of one plan, trained together in one compiled program.

Axis legend: S seeds, first; the rest as in `training.epoch`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.batch import Batch
from sealkd_jax.training.evaluation import firing_rates, make_evaluation, validate
from sealkd_jax.training.feed import on_devices
from sealkd_jax.training.loop import Trained, first_not_finite
from sealkd_jax.training.plan import Plan, prepare
from sealkd_jax.training.state import TrainState
from sealkd_jax.training.step import Metrics
from sealkd_jax.training.teacher_logits import TeacherLogits


def train_seeds(
    plan: Plan,
    seeds: Sequence[int],
    dataset: Dataset,
    parallel: Parallel,
    *,
    teacher_logits: TeacherLogits | None = None,
    at_once: int | None = None,
    on_epoch: Callable[[list[dict[str, Any]]], None] = lambda records: None,
) -> list[Trained]:
    """The result of `train` for each seed in place of the plan's own. Nothing is written to disk.

    All seeds are one program, compiled once and called once per epoch.

    Args:
        plan: what to compute, but for the seed.
        seeds: of the initial parameters and the order of the examples.
        dataset: in memory.
        parallel: the devices.
        teacher_logits: for methods that need a teacher.
        at_once: the number of seeds that are computed side by side (`vmap`); the others follow (`lax.map`). Memory for
            activations grows with it. The default is all on an accelerator, whose cores one small network does not
            fill, and 1 on a CPU: XLA has no fast CPU code for grouped convolutions, which those with one kernel per
            seed are (an epoch of five seeds of the digits preset on two cores takes 4 times as long with `vmap`).
        on_epoch: called with the records of an epoch, one per seed. Each has an equal part of the epoch's seconds.

    Raises:
        InputError: if the batch is larger than the training split, or the images are not in memory.
        FloatingPointError: as `train`; names the seed.
    """
    if not isinstance(dataset.train.images, np.ndarray):
        raise InputError(f"{dataset.name}: images that are read on demand; give its in_memory()")
    if at_once is None:
        at_once = 1 if parallel.devices[0].platform == "cpu" else len(seeds)
    group = None if at_once == 1 else min(at_once, len(seeds))
    prepared, spec = prepare(plan, dataset, parallel), plan.spec
    evaluate = make_evaluation(
        plan.network, spec, timesteps=plan.timesteps, observe=firing_rates, split_batch=parallel.constrain_batch
    )

    def run_epoch(states: TrainState, data: Batch, keys: chex.PRNGKey, epoch: jax.Array) -> tuple[TrainState, Metrics]:
        return jax.lax.map(lambda seed: prepared.epoch(seed[0], data, seed[1], epoch), (states, keys), batch_size=group)

    def select(states: TrainState, best: Any, data: Batch) -> Any:
        """Scores and firing rates `[S]` on validation; the best variables and scores so far, the later of equals."""

        def one(seed: tuple[TrainState, Any]) -> Any:
            state, best = seed
            score, rates = validate(evaluate(state.evaluated, data), data.labels)
            score = score.astype(best[1].dtype)
            keep = jax.tree.map(lambda new, old: jnp.where(score >= best[1], new, old), (state.evaluated, score), best)
            return score, rates, keep

        return jax.lax.map(one, (states, best), batch_size=group)

    run_epoch, select = parallel.compile_epoch(run_epoch), parallel.compile(select)
    data, validation = on_devices(dataset.train, parallel), on_devices(dataset.validation, parallel)
    states, keys = parallel.compile(lambda seeds: jax.lax.map(prepared.begin, seeds))(jnp.asarray(seeds, jnp.uint32))
    scores = jnp.full(len(seeds), -1, jnp.result_type(float))
    best = jax.tree.map(jnp.zeros_like, states.evaluated), parallel.put(scores)
    records: list[list[dict[str, Any]]] = [[] for _ in seeds]
    for epoch in range(spec.epochs):
        start = time.perf_counter()
        if teacher_logits is not None:
            data = data._replace(teacher_logits=jnp.asarray(teacher_logits.view(epoch % spec.views), jnp.float32))
        states, metrics = run_epoch(states, data, keys, jnp.int32(epoch))
        metrics = jax.tree.map(np.asarray, metrics)
        scores, rates, best = select(states, best, validation)
        scores, rates = jax.tree.map(np.asarray, (scores, rates))
        seconds = (time.perf_counter() - start) / len(seeds)
        for k, seed in enumerate(seeds):
            if bad := first_not_finite(_pick(metrics, k)):
                raise FloatingPointError(f"seed {seed}, epoch {epoch + 1}, {bad}; try a lower learning_rate")
            records[k].append(prepared.record(epoch, _pick(metrics, k), scores[k], _pick(rates, k), seconds))
        on_epoch([record[-1] for record in records])
    variables = jax.tree.map(np.asarray, best[0])
    return [Trained(_pick(variables, k), record) for k, record in enumerate(records)]


def _pick(tree: chex.ArrayTree, seed: int) -> Any:
    """The arrays of one seed."""
    return jax.tree.map(lambda x: x[seed], tree)
