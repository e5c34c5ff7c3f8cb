"""Many seeds of one plan, trained together in one compiled program.

Axis legend: S seeds, first; the rest as in `training.epoch`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.diagnostics import accuracy_by_timestep
from sealkd_jax.errors import InputError
from sealkd_jax.models import Variables
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.epoch import DeviceData, make_evaluation
from sealkd_jax.training.feed import on_devices
from sealkd_jax.training.loop import Plan, Trained, first_not_finite, prepare
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
    """What `train` gives for the plan with each of the seeds in place of its own; nothing is written to disk.

    All seeds are one compiled program: compiled once, and called once an epoch. `at_once` of them are computed side
    by side (`vmap`), the others after them (`lax.map`). Not given, it is all on an accelerator, whose cores one small
    network does not fill, and 1 on a CPU: convolutions with a kernel for each seed are grouped convolutions, for
    which XLA has no fast CPU code (measured on two cores with the digits preset and five seeds: an epoch takes 4
    times as long with `vmap`). Memory for activations grows with `at_once`.

    Args:
        on_epoch: called with the records of an epoch, one a seed. Their seconds are the epoch's, shared out evenly.

    Raises:
        InputError: if the batch is larger than the training split, or its images are read on demand.
        FloatingPointError: as `train`; names the seed.
    """
    if not isinstance(dataset.train.images, np.ndarray):
        raise InputError(f"{dataset.name}: images that are read on demand; give its in_memory()")
    if at_once is None:
        at_once = 1 if parallel.devices[0].platform == "cpu" else len(seeds)
    chunk = None if at_once == 1 else min(at_once, len(seeds))
    program, recipe = prepare(plan, dataset, parallel), plan.recipe
    evaluate = make_evaluation(plan.network, recipe, timesteps=plan.timesteps, split_batch=parallel.constrain_batch)

    def begin(data: DeviceData, seeds: jax.Array) -> tuple[TrainState, jax.Array]:
        return jax.lax.map(lambda seed: program.begin(data, seed), seeds)

    def run_epoch(
        states: TrainState, data: DeviceData, teacher: jax.Array | None, keys: jax.Array, epoch: jax.Array
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.map(
            lambda seed: program.epoch(seed[0], data, teacher, seed[1], epoch), (states, keys), batch_size=chunk
        )

    def select(variables: Variables, best: Variables, best_scores: jax.Array, data: DeviceData) -> Any:
        """Scores and firing rates `[S]` on validation, the best variables and scores so far; of equals the later."""

        def one(seed: tuple[Variables, Variables, jax.Array]) -> Any:
            new, old, old_score = seed
            logits, rates = evaluate(new, data)
            score = accuracy_by_timestep(logits, data.labels)[-1]
            better = score >= old_score
            kept = jax.tree.map(lambda x, y: jnp.where(better, x, y), (new, score), (old, old_score))
            return score, jax.tree.map(jnp.mean, rates), *kept

        return jax.lax.map(one, (variables, best, best_scores), batch_size=chunk)

    run_epoch, select = parallel.compile_epoch(run_epoch), parallel.compile(select)
    data = on_devices(dataset, dataset.train, parallel)
    validation = on_devices(dataset, dataset.validation, parallel)
    states, keys = parallel.compile(begin)(data, jnp.asarray(seeds, jnp.uint32))
    best = jax.tree.map(jnp.zeros_like, states.variables)
    best_scores = parallel.put(jnp.full(len(seeds), -1.0))
    records: list[list[dict[str, Any]]] = [[] for _ in seeds]
    for epoch in range(recipe.epochs):
        start = time.perf_counter()
        teacher = (
            None if teacher_logits is None else jnp.asarray(teacher_logits.view(epoch % recipe.views), jnp.float32)
        )
        states, metrics = run_epoch(states, data, teacher, keys, jnp.int32(epoch))
        metrics = jax.tree.map(np.asarray, metrics)
        scores, rates, best, best_scores = select(states.variables, best, best_scores, validation)
        scores, seconds = np.asarray(scores), (time.perf_counter() - start) / len(seeds)
        for k, seed in enumerate(seeds):
            of_seed, fired = jax.tree.map(lambda x: x[k], (metrics, rates))  # noqa: B023
            if bad := first_not_finite(of_seed):
                raise FloatingPointError(f"seed {seed}, epoch {epoch + 1}, {bad}; try a lower learning_rate")
            records[k].append(program.record(epoch, of_seed, scores[k], fired, seconds))
        on_epoch([of_seed[-1] for of_seed in records])
    best = jax.tree.map(np.asarray, best)
    return [Trained(jax.tree.map(lambda x: x[k], best), records[k]) for k in range(len(seeds))]  # noqa: B023
