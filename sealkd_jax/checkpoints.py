"""Checkpoints by Orbax: of the newest epoch, to go on from, and of the best on the validation split, to report."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from sealkd_jax.errors import InputError

SCORE = "val_accuracy"


class Checkpoints:
    """A directory of checkpoints named by the number of finished epochs. Each appears whole or not at all.

    Equal scores: the later epoch is the better. A context manager; leaving it closes Orbax.
    """

    def __init__(self, directory: Path):
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(
                    [LatestN(1), BestN(get_metric_fn=lambda metrics: metrics[SCORE], n=1)]
                ),
                # Training donates its state to the next epoch: it must be on disk before that begins.
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    @property
    def newest(self) -> int | None:
        """Epochs finished at the newest checkpoint; None where there is none."""
        return self._manager.latest_step()

    def save(self, epochs_done: int, state: Any, score: float) -> None:
        """Writes a state and drops those that are neither newest nor best."""
        self._manager.save(epochs_done, args=ocp.args.StandardSave(state), metrics={SCORE: score})

    def restore(self, epochs_done: int, like: Any) -> Any:
        """Reads the state of that epoch into the shapes, dtypes and shardings of `like`.

        Raises:
            InputError: if the checkpoint is damaged, or of another network or optimiser.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(epochs_done, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, OSError) as error:
            where = self._manager.directory / str(epochs_done)
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{where}: the checkpoint cannot be read ({reason}); begin anew in another --out"
            ) from error
