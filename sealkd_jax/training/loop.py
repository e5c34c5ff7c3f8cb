"""Training from the first epoch, or from the newest checkpoint, to the last; and its best model."""

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np

from sealkd_jax.data import Dataset
from sealkd_jax.errors import InputError
from sealkd_jax.files import naming, replacing
from sealkd_jax.models import Variables
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.run_files import Epoch
from sealkd_jax.training.checkpoints import SCORE, Checkpoints, best_of
from sealkd_jax.training.evaluation import compile_evaluation, firing_rates, validate
from sealkd_jax.training.feed import compile_epoch, count_steps, join_metrics
from sealkd_jax.training.plan import Plan, prepare
from sealkd_jax.training.step import Metrics
from sealkd_jax.training.teacher_logits import TeacherLogits
from sealkd_jax.typed import as_type


@dataclass(frozen=True)
class Trained:
    """The variables of the best epoch on the validation split, and the records of all epochs."""

    variables: Variables
    records: list[dict[str, Any]]

    @property
    def best(self) -> dict[str, Any]:
        """The record of the reported epoch: the best on validation, the later of equals."""
        return best_of(self.records)

    @property
    def seconds(self) -> float:
        """Time spent in epochs, with compilation and validation, over all starts of this run."""
        return sum(record["seconds"] for record in self.records)


def train(
    plan: Plan,
    dataset: Dataset,
    directory: Path,
    parallel: Parallel,
    *,
    teacher_logits: TeacherLogits | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    on_chunk: Callable[[], None] = lambda: None,
    on_damage: Callable[[str], None] = warnings.warn,
) -> Trained:
    """Trains, and writes a checkpoint and a line of `metrics.jsonl` per epoch.

    Resumes from the newest good checkpoint if the directory has one. The same plan, data and machine give the same
    parameters, also after interruptions. All processes that have devices of `parallel` call this; the main process
    writes.

    Args:
        plan: what to compute.
        dataset: train and validation are used.
        directory: of the run.
        parallel: the devices.
        teacher_logits: for methods that need a teacher.
        on_epoch: called with each epoch's record once its checkpoint is being written. If it raises, writing is
            finished and training stops.
        on_chunk: called between the chunks of a streamed epoch (single process). If it raises, the state is saved and
            training stops.
        on_damage: called with a line about a damaged checkpoint when training resumes from an older one.

    Raises:
        InputError: if the batch is larger than the training split, there are checkpoints but none is good, one cannot
            be written, or it is within an epoch and the data are not streamed.
        FloatingPointError: if a loss term or the gradient is not finite, naming the first, or the parameters after an
            epoch are not. The last good checkpoint is kept.
    """
    spec, validation = plan.spec, dataset.validation
    prepared = prepare(plan, dataset, parallel)
    run_epoch = compile_epoch(prepared, dataset.train, parallel)
    evaluate = compile_evaluation(plan.network, spec, plan.timesteps, parallel, validation, firing_rates)
    state, order_key = prepared.begin(plan.seed)
    state = parallel.put(state)

    metrics_file = directory / "metrics.jsonl"
    with Checkpoints(directory / "checkpoints") as checkpoints:
        state, records = checkpoints.restore_newest(state, on_damage)
        records, begun, seconds = _split_unfinished(directory, records, prepared.steps)
        if begun and isinstance(dataset.train.images, np.ndarray):
            raise InputError(f"{directory}: stopped within an epoch of streamed data; stream the data to go on")
        if is_main_process():
            with replacing(metrics_file) as partial:  # the checkpoint's records are the ones that hold
                partial.write_text("".join(json.dumps(record) + "\n" for record in records))
        for epoch in range(len(records), spec.epochs):
            start = time.perf_counter() - seconds
            teacher = None if teacher_logits is None else teacher_logits.view(epoch % spec.views)
            chunks = run_epoch(state, teacher, order_key, epoch, begun)
            for state, parts in chunks:
                try:
                    if count_steps(parts) < prepared.steps and parallel.processes == 1:
                        on_chunk()
                except BaseException:
                    if first_not_finite(metrics := join_metrics(parts)) is None:
                        unfinished = _unfinished(epoch, metrics, time.perf_counter() - start)
                        checkpoints.save(state, [*records, unfinished])
                    raise
            metrics, begun, seconds = join_metrics(parts), [], 0.0
            if bad := first_not_finite(metrics):
                kept = f"the checkpoint of epoch {epoch} in {directory}" if epoch else "no checkpoint"
                raise FloatingPointError(
                    f"epoch {epoch + 1}, {bad}; training stopped with {kept}; "
                    "try a lower learning_rate in another directory"
                )
            score, rates = validate(evaluate(state.evaluated), validation.labels)
            record = prepared.record(epoch, metrics, score, rates, time.perf_counter() - start)
            if is_main_process():
                with naming(metrics_file), metrics_file.open("a") as file:
                    file.write(json.dumps(record) + "\n")
            records.append(record)
            checkpoints.save(state, records)
            on_epoch(record)
        best, _ = checkpoints.restore(best_of(records)["epoch"], state)
    return Trained(best.evaluated, records)


def _unfinished(epoch: int, metrics: Metrics, seconds: float) -> dict[str, Any]:
    """Stands for the record of an interrupted epoch, and holds the metrics of its steps so far. Never the best."""
    return {"epoch": epoch + 1, SCORE: -1.0, "seconds": seconds, "metrics": jax.tree.map(np.ndarray.tolist, metrics)}


def _is_list(x: Any) -> bool:
    return isinstance(x, list)


class _Steps(TypedDict):
    """The metrics of the steps of an interrupted epoch."""

    loss: list[float]
    terms: dict[str, list[float]]
    accuracy: list[float]
    grad_norm: list[float]
    variables_norm: list[float]


class _Unfinished(TypedDict):
    """What `_unfinished` returns."""

    seconds: float
    metrics: _Steps


def _split_unfinished(directory: Path, records: Any, steps: int) -> tuple[list[dict[str, Any]], list[Metrics], float]:
    """The records of finished epochs, and the metrics of the steps after them and their seconds.

    Raises:
        InputError: if they are of another form.
    """
    begun: list[Metrics] = []
    seconds = 0.0
    try:
        if records and "metrics" in records[-1]:
            last = as_type(_Unfinished, records[-1], "the interrupted epoch")
            seconds, begun = last["seconds"], [jax.tree.map(np.asarray, last["metrics"], is_leaf=_is_list)]
            of_steps = {name: series for name, series in begun[0].items() if name != "variables_norm"}  # one a chunk
            if len({len(series) for series in jax.tree.leaves(of_steps)}) != 1 or not 0 < count_steps(begun) < steps:
                raise ValueError("the interrupted epoch has another number of steps")
            records = records[:-1]
        return as_type(list[Epoch], records, "records"), begun, seconds
    except ValueError as error:
        raise InputError(
            f"{directory}: the checkpoint is damaged: {error}; start again in another directory"
        ) from error


def first_not_finite(metrics: Metrics) -> str | None:
    """Names the loss term or gradient that was the first not to be finite, or the parameters after all steps."""
    series = metrics["terms"] | {"total loss": metrics["loss"], "gradient": metrics["grad_norm"]}
    first_bad = {name: int(np.argmin(np.isfinite(v))) for name, v in series.items() if not np.isfinite(v).all()}
    if first_bad:
        name = min(first_bad, key=first_bad.__getitem__)
        step = first_bad[name]
        return f"step {step + 1}: {name} is {series[name][step]}"
    norm = metrics["variables_norm"][-1]
    return None if np.isfinite(norm) else f"after step {len(metrics['loss'])}: the norm of all parameters is {norm}"
