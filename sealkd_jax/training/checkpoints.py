"""Checkpoints by Orbax: of the newest epochs, to go on from, and of the best on the validation split, to report.

A checkpoint is a directory named by the number of epochs, which gets that name when it is complete. It holds the state
and the records of those epochs; the last may be a note of how far into the epoch a run has come that was stopped there.
Order, keys, views and learning rate follow from the seed and the number of the epoch, and the best so far from the
records. Its manifest has the size and SHA-256 of every file of these. It is checked before a checkpoint is read,
because Orbax returns flipped bits as if nothing were wrong.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sealkd_jax.errors import InputError
from sealkd_jax.files import sha256, write_json
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.parallel.sharding import place

SCORE = "val_accuracy"
KEPT = 2  # newest ones: where the last is damaged, the one before it is gone on from
MANIFEST = "manifest.json"

# Orbax advises to save less often if a checkpoint takes longer than an epoch, which our users cannot do.
logging.getLogger("absl").addFilter(lambda line: not str(line.msg).startswith("Waiting for previous save"))

Records = list[dict[str, Any]]


def best_of(records: Records) -> dict[str, Any]:
    """The record of the best epoch on validation, of equals the last."""
    return max(records, key=lambda record: (record[SCORE], record["epoch"]))


class Checkpoints:
    """A directory of checkpoints. Each is written while training goes on, and appears whole or not at all.

    Equal scores: the later epoch is the better. A context manager; leaving it waits for what is being written.
    """

    def __init__(self, directory: Path):
        self._directory = directory.absolute()
        self._records: Records = []
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self,
                enable_async_checkpointing=True,
                # Called when all is written, before the directory gets its name and older ones are dropped.
                async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    @property
    def epochs(self) -> list[int]:
        """Epochs finished at each checkpoint, the newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(self, state: Any, records: Records) -> None:
        """Begins to write the state after `records`, and drops those that are neither among the newest nor best.

        Raises:
            InputError: if the one before could not be written, or this one cannot.
        """
        # Copies of our own: training donates the state's memory to the next epoch, and the list grows.
        state, facts = jax.tree.map(np.array, state), {"records": list(records)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))
        with self._writing():
            self._manager.wait_until_finished()
            self._records = facts["records"]
            if len(records) in self._manager.all_steps():  # of this epoch, when it was not finished
                self._manager.delete(len(records))
            self._manager.save(len(records), args=items)

    def restore(self, epochs_done: int, like: Any) -> tuple[Any, Records]:
        """The state and the records, in the shapes, dtypes and shardings of `like`: on any number of devices.

        Raises:
            InputError: if the checkpoint is missing, damaged, or of another network or optimiser.
        """
        with self._writing():
            self._manager.wait_until_finished()
        directory = self._directory / str(epochs_done)
        on_host = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(on_host), facts=ocp.args.JsonRestore())
        if wrong := _first_wrong(directory):
            raise InputError(f"{directory}: damaged, {wrong}; start again in another directory")
        try:
            found = self._manager.restore(epochs_done, args=items)
            jax.tree.map_with_path(_expect_alike, found.state, like)
        except Exception as error:  # Orbax raises almost anything
            raise InputError(
                f"{directory}: not a checkpoint of this network and optimiser ({_first_line(error)}); "
                "start again in another directory"
            ) from error
        records = found.facts["records"]
        if len(records) != epochs_done:
            raise InputError(f"{directory}: renamed, it is of epoch {len(records)}; give it back its name")
        return jax.tree.map(lambda x, like: place(x, like.sharding), found.state, like), records

    def restore_newest(self, like: Any, tell: Callable[[str], None]) -> tuple[Any, Records]:
        """The newest state that is good, and its records; `like` and none where there is no checkpoint.

        Newer ones that are damaged are named to `tell` and removed: their epochs are trained again.

        Raises:
            InputError: if there are checkpoints but none is good; names the newest.
        """
        errors = {}
        for epoch in self.epochs:
            try:
                state, records = self.restore(epoch, like)
            except InputError as error:
                errors[epoch] = error
                continue
            for bad, found in errors.items():
                reason = str(found).rpartition(";")[0]
                tell(f"{reason}; it is removed, and training goes on from epoch {epoch}")
                self._manager.delete(bad)
            return state, records
        for newest in errors.values():
            raise newest
        return like, []

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax asks, whenever it saves, which checkpoints to keep; its own policies forget scores at a restart."""
        newest = sorted(checkpoint.step for checkpoint in checkpoints)[-KEPT:]
        # Of each of the newest also what was best by then: where those after it are damaged, training goes on from it.
        kept = {*newest, *(best_of(self._records[:epochs])["epoch"] for epochs in newest)}
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def _write_manifest(self) -> None:
        if is_main_process():
            (unnamed,) = self._directory.glob(f"{len(self._records)}.*")
            write_json(unnamed / MANIFEST, _digests(unnamed))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Names what could not be written, now or since the last call: Orbax writes in a thread of its own."""
        try:
            yield
        except Exception as error:  # of a full disk it says so in OSError, ValueError or JaxRuntimeError
            raise InputError(
                f"{self._directory}: a checkpoint cannot be written ({_first_line(error)}); "
                "earlier ones are kept: free some space and resume"
            ) from error


def _expect_alike(path: Any, found: np.ndarray, like: jax.Array) -> None:
    if (found.shape, found.dtype) != (like.shape, like.dtype):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        raise ValueError(f"{name}: expected {like.dtype} {list(like.shape)}, found {found.dtype} {list(found.shape)}")


def _digests(directory: Path) -> dict[str, list]:
    """Size and SHA-256 of every file of what was saved; beside that lie only Orbax's notes of when and how."""
    files = (path for path in directory.glob("*/**/*") if path.is_file())
    return {path.relative_to(directory).as_posix(): [path.stat().st_size, sha256(path)] for path in sorted(files)}


def _first_wrong(directory: Path) -> str | None:
    """What is wrong with the first file that is not as the manifest says; None where all are."""
    try:
        written, found = json.loads((directory / MANIFEST).read_bytes()), _digests(directory)
        names = sorted(written.keys() | found.keys())
    except (OSError, ValueError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({_first_line(error)})"
    for name in names:
        if name not in found:
            return f"{name} is missing"
        if written.get(name) != found[name]:
            return f"{name} is not what was written"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
