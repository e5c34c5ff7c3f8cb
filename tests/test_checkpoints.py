"""Checkpoints: what is kept, what damage does to them, and other numbers of devices than they were written on."""

import errno
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.errors import InputError, printable
from sealkd_jax.files import write_json
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.training import params_digest, train
from sealkd_jax.training.checkpoints import Checkpoints
from tests.helpers.devices import first_devices
from tests.helpers.programs import contents
from tests.helpers.small_training import Interrupted, make_dataset, make_network, make_plan, one_device

RECORDS = [{"epoch": epoch, "val_accuracy": score} for epoch, score in enumerate((0.5, 0.9, 0.9, 0.1, 0.3, 0.2), 1)]
PLAN, DATASET = make_plan(), make_dataset()
STATE = {"a": jnp.asarray(np.random.default_rng(0).normal(size=(40, 50)), jnp.float32), "n": jnp.int32(7)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory of one checkpoint."""
    directory = tmp_path_factory.mktemp("written") / "c"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(STATE, RECORDS[:1])
    return directory


def same(state, expected=STATE):
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    return True


def test_the_newest_two_are_kept_and_the_best_of_equals_the_later(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in range(1, 7):
            checkpoints.save({"x": jnp.full(3, epoch)}, RECORDS[:epoch])
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.epochs == [6, 5, 3]
        for epoch in (3, 5, 6):
            state, records = checkpoints.restore(epoch, {"x": jnp.zeros(3, int)})
            assert same(state, {"x": [epoch] * 3}) and records == RECORDS[:epoch]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "5", "6"]


def test_the_best_is_kept_over_restarts_and_no_other(tmp_path):
    for epoch in range(1, 7):
        with Checkpoints(tmp_path / "c") as checkpoints:
            checkpoints.save({"x": jnp.full(3, epoch)}, RECORDS[:epoch])
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "5", "6"]


def test_a_slow_disk_is_waited_for_without_a_word(tmp_path, monkeypatch, caplog):
    def slow(*file):
        time.sleep(1.2)  # Orbax gives advice after a second
        write_json(*file)

    monkeypatch.setattr("sealkd_jax.training.checkpoints.write_json", slow)
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(STATE, RECORDS[:epoch])
    assert caplog.records == []


def test_what_is_saved_does_not_change_with_what_goes_on(tmp_path):
    """Training uses the state's memory again, and adds to the records, while the checkpoint is being written."""
    state, records = {"x": jnp.arange(100_000.0)}, RECORDS[:1]
    overwrite = jax.jit(lambda state: {"x": state["x"] * 0 - 1}, donate_argnums=0)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, records)
        jax.block_until_ready(overwrite(state))
        records.append(RECORDS[1])
        found, restored = checkpoints.restore(1, {"x": jnp.zeros(100_000)})
    assert same(found, {"x": np.arange(100_000.0)}) and restored == RECORDS[:1]


@pytest.mark.parametrize(("before", "after"), [(8, 1), (8, 2), (8, 4), (1, 8), (2, 8), (4, 8)])
def test_a_checkpoint_restores_on_another_number_of_devices(tmp_path, before, after):
    there, here = (Parallel("jit", first_devices(n)) for n in (before, after))
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(there.put(STATE), RECORDS[:1])
    with Checkpoints(tmp_path / "c") as checkpoints:
        found, _ = checkpoints.restore(1, here.put(jax.tree.map(jnp.zeros_like, STATE)))
    assert same(found) and all(len(leaf.sharding.device_set) == after for leaf in jax.tree.leaves(found))


@pytest.mark.slow
def test_a_run_begun_on_eight_devices_ends_on_two_as_on_one(tmp_path, float64):
    plan = replace(make_plan(), network=make_network(dtype=jnp.float64, param_dtype=jnp.float64))
    dataset = make_dataset()

    def stop(record):
        if record["epoch"] == 2:
            raise Interrupted

    for name in ("one", "moved"):
        (tmp_path / name).mkdir()
    one = train(plan, dataset, tmp_path / "one", one_device())
    with pytest.raises(Interrupted):
        train(plan, dataset, tmp_path / "moved", Parallel("jit", first_devices(8)), on_epoch=stop)
    moved = train(plan, dataset, tmp_path / "moved", Parallel("jit", first_devices(2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), one.variables, moved.variables)


def damages(data):
    """Copies of some bytes, each damaged in one place: bits flipped throughout, cut, grown."""
    rng = np.random.default_rng(len(data))
    for at in rng.integers(0, len(data), 6) if data else ():
        yield data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if data:
        yield data[: len(data) // 2]
        yield b""
    yield data + b"?"


def test_any_damage_to_any_file_of_a_checkpoint_is_named(written, tmp_path):
    """But for Orbax's notes of when and how it was written, which change nothing."""
    shutil.copytree(written, tmp_path / "c")
    files = [path for path in sorted((tmp_path / "c" / "1").rglob("*")) if path.is_file()]
    notes = {"_CHECKPOINT_METADATA", "commit_success.txt"}
    assert len(files) > 8
    with Checkpoints(tmp_path / "c") as checkpoints:
        for path in files:
            good = path.read_bytes()
            for damaged in [*damages(good), None]:
                path.unlink() if damaged is None else path.write_bytes(damaged)
                if path.parent.name == "1" and path.name in notes:
                    assert same(checkpoints.restore(1, STATE)[0])
                    continue
                with pytest.raises(InputError) as raised:
                    checkpoints.restore(1, STATE)
                words = str(raised.value)
                assert words.startswith(f"{tmp_path}/c/1: damaged, ") and "\n" not in words
                assert path.name in words or path.name == "manifest.json"  # which may be wrong about another
            path.write_bytes(good)
        assert same(checkpoints.restore(1, STATE)[0])


def test_a_checkpoint_under_another_name_is_refused(written, tmp_path):
    shutil.copytree(written / "1", tmp_path / "c" / "3")
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(InputError, match="c/3: renamed, it is of epoch 1"):
        checkpoints.restore_newest(STATE, pytest.fail)


@pytest.mark.parametrize("left", ["state", "records", "nothing"])
def test_one_whose_removal_was_cut_short_is_in_nobodys_way(tmp_path, left):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in range(1, 4):
            checkpoints.save(STATE, RECORDS[:epoch])
    (tmp_path / "c" / "1").mkdir()
    if left != "nothing":
        shutil.copytree(tmp_path / "c" / "2" / left, tmp_path / "c" / "1" / left)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert same(checkpoints.restore_newest(STATE, pytest.fail)[0])
        checkpoints.save(STATE, RECORDS[:4])
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["3", "4"]


def damage(checkpoint):
    """Cuts every file of arrays."""
    for path in (checkpoint / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compiled_once):
    """A finished run, its directory and its digest."""
    directory = tmp_path_factory.mktemp("trained")
    return directory, params_digest(train(PLAN, DATASET, directory, one_device()).variables)


def test_behind_a_damaged_checkpoint_the_good_one_before_is_gone_on_from(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "4")
    epochs = []
    with pytest.warns(UserWarning, match=r"checkpoints/4: damaged, .*resumes from epoch 3"):
        again = train(PLAN, DATASET, tmp_path / "run", one_device(), on_epoch=lambda r: epochs.append(r["epoch"]))
    assert epochs == [4] and params_digest(again.variables) == trained[1]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]


def test_what_was_best_before_the_newest_epoch_is_there_when_that_is_damaged(tmp_path):
    records = [{"epoch": epoch, "val_accuracy": score} for epoch, score in enumerate((0.9, 0.5, 0.95), 1)]
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in range(1, 4):
            checkpoints.save(STATE | {"n": jnp.int32(epoch)}, records[:epoch])
    damage(tmp_path / "c" / "3")
    with Checkpoints(tmp_path / "c") as checkpoints:
        _, found = checkpoints.restore_newest(STATE, lambda _: None)
        assert found == records[:2]
        assert checkpoints.restore(1, STATE)[0]["n"] == 1  # what a run that ends with a lower score reports


def test_where_no_checkpoint_is_good_nothing_is_trained(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        damage(checkpoint)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"checkpoints/4: damaged, .*start again in another directory"):
        train(PLAN, DATASET, tmp_path / "run", one_device())
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_records_come_from_the_checkpoint(trained, tmp_path):
    """metrics.jsonl may be cut or altered: the resumed state and the report are complete."""
    shutil.copytree(trained[0], tmp_path / "run")
    good = (tmp_path / "run" / "metrics.jsonl").read_text()
    (tmp_path / "run" / "metrics.jsonl").write_text(good[:100].replace("0.", "7."))
    train(PLAN, DATASET, tmp_path / "run", one_device())
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == good


def test_a_checkpoint_of_another_network_is_named(written):
    others = (
        STATE | {"a": jnp.zeros((3, 3))},
        STATE | {"b": STATE["a"]},
        {"n": STATE["n"]},
    )
    with Checkpoints(written) as checkpoints:
        for like in others:
            with pytest.raises(InputError, match=r"c/1: not a checkpoint of this network and optimiser"):
                checkpoints.restore(1, like)


# ---- what is not damage: rights, hiccups of a disk, odd names, links


def unreadable(path, monkeypatch, error):
    """Makes opening that file fail for this process: a user without rights, or a disk that fails now."""
    real = os.open

    def fail(name, *arguments, **options):
        if Path(os.fsdecode(name)) == path:
            raise OSError(error, os.strerror(error), str(path))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_with_nan_or_infinity_is_refused_by_the_name_of_the_array(tmp_path, value):
    """Its manifest agrees, as that of a run that somebody else made."""
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(STATE, RECORDS[:1])
        checkpoints.save(STATE | {"a": STATE["a"].at[3, 4].set(value)}, RECORDS[:2])
    before = contents(tmp_path)
    refused = pytest.raises(InputError, match=rf"c/2: a: expected finite numbers, got {value}")
    with Checkpoints(tmp_path / "c") as checkpoints, refused:
        checkpoints.restore_newest(STATE, pytest.fail)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["manifest.json", "state/_METADATA"])
def test_what_cannot_be_read_now_is_neither_removed_nor_trained_again(tmp_path, monkeypatch, name, error):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(STATE, RECORDS[:epoch])
    before = contents(tmp_path)
    with monkeypatch.context() as patch, Checkpoints(tmp_path / "c") as checkpoints:
        unreadable(tmp_path / "c" / "2" / name, patch, error)
        with pytest.raises(InputError, match=rf"c/2/{name}: cannot be read now \({os.strerror(error)}\)"):
            checkpoints.restore_newest(STATE, pytest.fail)
    assert contents(tmp_path) == before
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_newest(STATE, pytest.fail)[1] == RECORDS[:2]


def test_a_folder_of_a_checkpoint_that_cannot_be_listed_is_no_damage(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for epoch in (1, 2):
            checkpoints.save(STATE, RECORDS[:epoch])

    def walk(top, onerror):
        onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(top / "state")))
        yield from ()

    with Checkpoints(tmp_path / "c") as checkpoints:
        monkeypatch.setattr("sealkd_jax.training.checkpoints.os.walk", walk)
        with pytest.raises(InputError, match="c/2/state: cannot be read now"):
            checkpoints.restore_newest(STATE, pytest.fail)
    assert (tmp_path / "c" / "2").exists()


@pytest.mark.parametrize("name", ["sweep[1]", "a*", "what?", "a\\b", "a\nb", "\x1b[2J", "a\udc80b", "gs:", "a\u202eb"])
@pytest.mark.parametrize("place", ["{}", "{}/run", "a/{}/b"])
def test_a_path_that_orbax_misreads_is_refused_before_anything_is_written(tmp_path, name, place):
    with pytest.raises(InputError, match="checkpoints cannot be kept there") as raised:
        Checkpoints(tmp_path / place.format(name))
    assert list(tmp_path.iterdir()) == [] and "\n" not in printable(str(raised.value))


@pytest.mark.parametrize("name", ["ü x", "{a}", "a%20b", "#", "a'b\"", "$HOME", "~", "a:b", "..a", "a.b.partial"])
def test_other_names_are_kept(tmp_path, name):
    with Checkpoints(tmp_path / name / "c") as checkpoints:
        checkpoints.save(STATE, RECORDS[:1])
    with Checkpoints(tmp_path / name / "c") as checkpoints:
        assert same(checkpoints.restore_newest(STATE, pytest.fail)[0])


@pytest.mark.parametrize("link", ["c", "c/2", "c/3.orbax-checkpoint-tmp", "c/1/state", "c/1/manifest.json"])
def test_links_in_a_directory_of_checkpoints_are_refused(written, tmp_path, link):
    shutil.copytree(written, tmp_path / "c")
    shutil.copytree(written, tmp_path / "elsewhere")
    before, path = contents(tmp_path / "elsewhere"), tmp_path / link
    if path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(
        tmp_path / "elsewhere" / "1" / "manifest.json" if path.suffix == ".json" else tmp_path / "elsewhere"
    )
    with pytest.raises(InputError, match=f"{link}: a symbolic link"):
        Checkpoints(tmp_path / "c")
    assert contents(tmp_path / "elsewhere") == before


def test_a_first_checkpoint_that_is_not_read_back_ends_the_run(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "c") as checkpoints:
        read = checkpoints._manager.restore

        def other(*step, args):
            found = read(*step, args=args)
            found.state["a"] += 1
            return found

        monkeypatch.setattr(checkpoints._manager, "restore", other)
        with pytest.raises(InputError, match="read back otherwise"):
            checkpoints.save(STATE, RECORDS[:1])


def test_a_pipe_among_checkpoints_is_refused(written, tmp_path):
    shutil.copytree(written, tmp_path / "c")
    (tmp_path / "c" / "1" / "_CHECKPOINT_METADATA").unlink()
    os.mkfifo(tmp_path / "c" / "1" / "_CHECKPOINT_METADATA")
    with pytest.raises(InputError, match="_CHECKPOINT_METADATA: a pipe or a device"):
        Checkpoints(tmp_path / "c")
