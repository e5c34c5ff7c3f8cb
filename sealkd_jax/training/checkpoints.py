"""Checkpoints by Orbax: the newest epochs, to resume from, and the best on the validation split, to report.

A checkpoint is a directory named by the number of epochs; it gets the name when it is complete. It holds the state and
the records of those epochs; the last record may instead say how far an interrupted epoch had got. Order, keys, views
and learning rate follow from the seed and the epoch's number, and the best epoch so far from the records. The manifest
has the size and SHA-256 of each file. It is checked before a checkpoint is read, because Orbax returns flipped bits
without an error. Only a checkpoint that differs from its manifest is damaged; one that cannot be read for another
reason, such as missing rights, is left alone, and so is the run.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp

from sealkd_jax.errors import InputError, printable
from sealkd_jax.files import open_file, refuse_link, sha256, write_json
from sealkd_jax.parallel.processes import is_main_process
from sealkd_jax.parallel.sharding import place
from sealkd_jax.typed import Range, as_type, at_least
from sealkd_jax.weights.own import check_values, flatten

SCORE = "val_accuracy"
KEPT = 2  # newest checkpoints: if the newest is damaged, training resumes from the one before
MANIFEST = "manifest.json"

# Orbax advises to save less often if a checkpoint takes longer than an epoch, which our users cannot do.
logging.getLogger("absl").addFilter(lambda line: not str(line.msg).startswith("Waiting for previous save"))

Records = list[dict[str, Any]]


class DamagedError(InputError):
    """A checkpoint that is not as it was written."""


def check_path(directory: Path) -> None:
    """Checks that Orbax can write checkpoints below a directory and read them back.

    Raises:
        InputError: if its absolute path has a character that Orbax or TensorStore takes for something else.
    """
    path = str(directory.absolute())
    odd = sorted({c for c in path if c in "[]*?\\" or printable(c) != c})
    if odd or any(part.endswith(":") for part in directory.absolute().parts):
        found = " ".join(odd) or ":"
        raise InputError(
            f'{path}: checkpoints cannot be kept there: "{found}" in the path; choose a directory without it'
        )


def best_of(records: Records) -> dict[str, Any]:
    """The record of the best epoch on validation, the later of equals."""
    return max(records, key=lambda record: (record[SCORE], record["epoch"]))


class Checkpoints:
    """A directory of checkpoints, each of which is written while training continues, and is complete or absent.

    A context manager; leaving it waits for the checkpoint that is being written.

    Raises:
        InputError: if the directory cannot hold checkpoints, or has symbolic links.
    """

    def __init__(self, directory: Path):
        check_path(directory)
        self._directory = directory.absolute()
        for path in (self._directory, *self._directory.rglob("*")):
            refuse_link(path)
            if path.exists() and not (path.is_dir() or path.is_file()):  # Orbax would wait for ever
                raise InputError(f"{path}: a pipe or a device among checkpoints; remove it")
        self._records: Records = []
        self._proved = False  # whether a checkpoint of this directory was read back
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            enable_async_checkpointing=True,
            # Called when all files are written, before the directory gets its name and older ones are deleted.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
            cleanup_tmp_directories=True,
        )
        with self._writing():
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        with self._writing():
            self._manager.close()

    @property
    def epochs(self) -> list[int]:
        """The numbers of epochs of the checkpoints, the newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(self, state: Any, records: Records) -> None:
        """Starts to write the state after `records`, and deletes checkpoints that are neither newest nor best.

        The first is read back at once, so that no run is trained that could not be resumed.

        Raises:
            InputError: if this checkpoint, or the one before, cannot be written, or the first cannot be read.
        """
        # Copies, because training donates the state's memory to the next epoch, and the list grows.
        state, records = jax.tree.map(np.array, state), list(records)
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), records=ocp.args.JsonSave(records))
        with self._writing():
            self._manager.wait_until_finished()
            self._records = records
            if len(records) in self._manager.all_steps():  # of this epoch before it was finished
                self._manager.delete(len(records))
            self._manager.save(len(records), args=items)
        if not self._proved:
            found, _ = self._read(len(records), state)
            if not jax.tree.all(jax.tree.map(np.array_equal, found, state)):
                raise InputError(f"{self._directory}: a checkpoint is read back otherwise; choose another directory")

    def restore(self, epochs_done: int, like: Any) -> tuple[Any, Records]:
        """The state and the records. The state has the shapes, dtypes and shardings of `like`, on any devices.

        Raises:
            DamagedError: if the checkpoint is missing or differs from its manifest.
            InputError: if it cannot be read, or is of another network or optimiser.
        """
        found, records = self._read(epochs_done, like)
        return jax.tree.map(lambda x, like: place(x, like.sharding), found, like), records

    def _read(self, epochs_done: int, like: Any) -> tuple[Any, Records]:
        """`restore` into the host's memory."""
        with self._writing():
            self._manager.wait_until_finished()
        directory = self._directory / str(epochs_done)
        on_host = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(on_host), records=ocp.args.JsonRestore())
        if wrong := _first_wrong(directory):
            raise DamagedError(f"{directory}: damaged, {wrong}; start again in another directory")
        try:
            found = self._manager.restore(epochs_done, args=items)
            chex.assert_trees_all_equal_shapes_and_dtypes(found.state, like)
        except Exception as error:  # Orbax raises errors of many types
            raise InputError(
                f"{directory}: not a checkpoint of this network and optimiser ({_first_line(error)}); "
                "start again in another directory"
            ) from error
        check_values(directory, flatten(found.state))
        _check_records(directory, found.records)
        if len(found.records) != epochs_done:
            raise InputError(f"{directory}: renamed, it is of epoch {len(found.records)}; give it back its name")
        self._proved = True
        return found.state, found.records

    def restore_newest(self, like: Any, tell: Callable[[str], None]) -> tuple[Any, Records]:
        """The newest good state and its records; `like` and no records if there is no checkpoint.

        Newer checkpoints that are damaged are removed, and `tell` gets a line about each: their epochs are trained
        again.

        Raises:
            InputError: if there are checkpoints but none is good, with a message about the newest, or one cannot be
                read. Then nothing is removed.
        """
        errors = {}
        for epoch in self.epochs:
            try:
                state, records = self.restore(epoch, like)
            except DamagedError as error:
                errors[epoch] = error
                continue
            for bad, found in errors.items():
                reason = str(found).rpartition(";")[0]
                tell(f"{reason}; it is removed, and training resumes from epoch {epoch}")
                with self._writing():
                    self._manager.delete(bad)
            return state, records
        for newest in errors.values():
            raise newest
        return like, []

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Tells Orbax, at each save, which checkpoints to keep. Its own policies forget the scores at a restart."""
        newest = sorted(checkpoint.step for checkpoint in checkpoints)[-KEPT:]
        # For each of the newest also the best by then: if later ones are damaged, training resumes from there.
        kept = {*newest, *(best_of(self._records[:epochs])["epoch"] for epochs in newest)}
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def _write_manifest(self) -> None:
        if is_main_process():
            (unnamed,) = self._directory.glob(f"{len(self._records)}.*")
            write_json(unnamed / MANIFEST, _digests(unnamed))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Names the directory in errors of this call and of those since the last: Orbax writes in its own thread."""
        try:
            yield
        except Exception as error:  # a full disk raises OSError, ValueError or JaxRuntimeError
            if is_main_process():
                for unfinished in self._directory.glob("*.orbax-checkpoint-tmp*"):  # it takes up space
                    shutil.rmtree(unfinished, ignore_errors=True)
            raise InputError(
                f"{self._directory}: a checkpoint cannot be written ({_first_line(error)}); "
                "earlier ones are kept: free some space and resume"
            ) from error


class _Scored(TypedDict):
    epoch: Annotated[int, at_least(1)]
    val_accuracy: Annotated[float, Range("-1 to 1", lambda score: -1 <= score <= 1)]


def _check_records(directory: Path, records: Any) -> None:
    """Raises an `InputError` unless the records are of the epochs 1, 2, 3, … and have scores."""
    try:
        epochs = [record["epoch"] for record in as_type(list[_Scored], records, "records")]
    except ValueError as error:
        raise InputError(f"{directory}: damaged: {error}; start again in another directory") from error
    if epochs != list(range(1, len(epochs) + 1)):
        raise InputError(f"{directory}: damaged: the records are of other epochs; start again in another directory")


def _digests(directory: Path) -> dict[str, list]:
    """Size and SHA-256 of each file of the state and the records, without Orbax's notes about the saving itself.

    Raises:
        OSError: if a file or a directory cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    folders = os.walk(directory, onerror=fail)
    files = [Path(folder, name) for folder, _, names in folders if Path(folder) != directory for name in names]
    return {path.relative_to(directory).as_posix(): [path.stat().st_size, sha256(path)] for path in sorted(files)}


def _first_wrong(directory: Path) -> str | None:
    """Describes the first file that differs from the manifest; None if all agree.

    Raises:
        InputError: if a file that is there cannot be read.
    """
    try:
        with open_file(directory / MANIFEST) as file:
            written = json.load(file)
        found = _digests(directory)
        names = sorted(written.keys() | found.keys())
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except OSError as error:
        raise InputError(
            f"{error.filename or directory}: cannot be read now ({error.strerror}); nothing was removed: "
            "mend that, and resume"
        ) from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({_first_line(error)})"
    for name in names:
        if name not in found:
            return f"{name} is missing"
        if written.get(name) != found[name]:
            return f"{name} was changed"
    return None


def _first_line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split("\n")[0].split())
