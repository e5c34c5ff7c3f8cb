"""A profile of some training steps, for TensorBoard or Perfetto."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sealkd_jax.data import Dataset, take
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training.batch import Batch
from sealkd_jax.training.epoch import epoch_order
from sealkd_jax.training.plan import Plan, prepare
from sealkd_jax.training.teacher_logits import TeacherLogits


def profile_steps(
    plan: Plan,
    dataset: Dataset,
    parallel: Parallel,
    directory: Path,
    *,
    teacher_logits: TeacherLogits | None = None,
    steps: int = 3,
) -> None:
    """Traces the first steps of a run, each under the name `train`, and writes the profile into `directory`.

    TensorBoard (with the plugin `xprof`) opens the directory, https://ui.perfetto.dev the file `perfetto_trace.json.gz`
    in it. The state is a fresh one: training before and after is not changed. Compilation is not in the trace.

    Args:
        plan: of the run.
        dataset: for the first batches of the training split.
        parallel: the devices.
        directory: for the profile; each process writes its own.
        teacher_logits: for methods that need a teacher.
        steps: their number.

    Raises:
        InputError: as `prepare`.
    """
    prepared, split = prepare(plan, dataset, parallel), dataset.train
    run = parallel.compile_epoch(prepared.chunk, sharded=True)
    state, key = prepared.begin(plan.seed)
    state = parallel.put(state)
    order = parallel.process_shard(np.asarray(epoch_order(plan.spec, len(split.labels), key, jnp.int32(0))))
    view = None if teacher_logits is None else teacher_logits.view(0)

    def chunk(number: int) -> Batch:
        """One batch, `[1, B, ...]`."""
        index = order[number % len(order)]
        logits = None if view is None else np.asarray(view[index], np.float32)
        batch = Batch(take(split.images, index), split.labels[index], logits, index)
        return parallel.put_batches(jax.tree.map(lambda x: x[None], batch))

    chunks = [chunk(number) for number in range(steps + 1)]
    epoch, first = jnp.int32(0), jnp.int32(0)
    state, metrics = run(state, chunks[0], epoch, first)  # compiles
    jax.block_until_ready(metrics)
    with jax.profiler.trace(directory, create_perfetto_trace=True):
        for number in range(steps):
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                state, metrics = run(state, chunks[number + 1], epoch, first)
                jax.block_until_ready(metrics)
