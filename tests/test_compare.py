"""Many seeds in one program, and the comparison of methods as a user runs it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sealkd_jax.data import load
from sealkd_jax.errors import InputError
from sealkd_jax.files import fingerprint
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs import comparison
from sealkd_jax.programs.cells import cache_key, make_cells
from sealkd_jax.programs.command_line import parse
from sealkd_jax.programs.commands import compare, evaluate
from sealkd_jax.programs.options import CompareOptions
from sealkd_jax.training import train, train_seeds
from sealkd_jax.training.teacher_logits import TeacherLogits
from tests.helpers.devices import first_devices
from tests.helpers.programs import read, refusal, scalars
from tests.helpers.small_training import CLASSES, make_dataset, make_network, make_plan, one_device

# ---- many seeds


@pytest.fixture(scope="module")
def alone(tmp_path_factory, compiled_once):
    """Plan, data, teacher, and the students of seeds 0 and 7 trained one by one on one device, in float64."""
    folder = tmp_path_factory.mktemp("alone")
    with jax.enable_x64(True):
        dataset, rng = make_dataset(), np.random.default_rng(0)
        np.savez(folder / "own.npz", logits=rng.normal(size=(2, 40, CLASSES)).astype(np.float32))
        teacher = TeacherLogits(folder / "own.npz", examples=40, classes=CLASSES, timesteps=2, views=2)
        plan = replace(make_plan("seal"), network=make_network(dtype=jnp.float64, param_dtype=jnp.float64))
        students = {}
        for seed in (0, 7):
            (folder / str(seed)).mkdir()
            students[seed] = train(
                replace(plan, seed=seed), dataset, folder / str(seed), one_device(), teacher_logits=teacher
            )
        yield plan, dataset, teacher, students


@pytest.mark.parametrize(
    ("mode", "devices", "at_once"), [("jit", 2, 2), pytest.param("pmap", 2, 1, marks=pytest.mark.slow)]
)
def test_seeds_together_are_seeds_one_by_one(float64, alone, mode, devices, at_once):
    """Whatever is side by side or one after the other: parameters, statistics, the choice of the epoch, records."""
    plan, dataset, teacher, students = alone
    seen, parallel = [], Parallel(mode, first_devices(devices))
    together = train_seeds(
        plan, list(students), dataset, parallel, teacher_logits=teacher, at_once=at_once, on_epoch=seen.append
    )
    assert [[record["epoch"] for record in epoch] for epoch in seen] == [[1, 1], [2, 2], [3, 3], [4, 4]]
    for student, by_itself, records in zip(together, students.values(), zip(*seen, strict=True), strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), student.variables, by_itself.variables
        )
        assert student.best["epoch"] == by_itself.best["epoch"] and list(records) == student.records
        for a, b in zip(student.records, by_itself.records, strict=True):
            for name in ("loss", "val_accuracy", "learning_rate", "grad_norm"):
                assert a[name] == pytest.approx(b[name], abs=1e-10)


@pytest.mark.slow
def test_a_seed_that_goes_nan_is_named():
    def method(student_logits, teacher_logits, labels, *, progress, axis_name):
        return student_logits.sum() * jnp.where(progress > 0.3, jnp.nan, 1.0), {"fine": jnp.zeros(())}

    with pytest.raises(FloatingPointError, match=r"seed 5, epoch 2, step \d: total loss is nan"):
        train_seeds(make_plan(method), (5, 6), make_dataset(), one_device())


# ---- what is compared


def cells(*arguments):
    """The cells that a command line comes to; nothing is trained."""
    _, options = parse(CompareOptions, "", list(arguments), "compare")
    return make_cells(options, load("digits"))


def test_a_sweep_is_every_combination_for_the_methods_that_have_it():
    made = cells("--methods", "none,ela", "--sweep", "temperature=2,3", "timesteps=1,4", "--hyper", "alpha=0.5")
    assert [cell.name for cell in made] == [
        "none timesteps=1",
        "none timesteps=4",
        "ela temperature=2 timesteps=1",
        "ela temperature=2 timesteps=4",
        "ela temperature=3 timesteps=1",
        "ela temperature=3 timesteps=4",
    ]
    assert [cell.plan.timesteps for cell in made] == [1, 4] * 3
    assert made[0].plan.method.keywords == {}
    assert made[2].plan.method.keywords == {"alpha": 0.5, "temperature": 2.0}


def test_augmentations_can_be_swept():
    none, some = cells("--methods", "none", "--sweep", "augment=none,crop(2)|cutout(4)")
    assert none.options.augment == "none" and some.options.augment == "crop(2) | cutout(4)"
    with pytest.raises(InputError, match="augment roll"):
        cells("--methods", "none", "--sweep", "augment=none,roll(2)")


def test_what_decides_a_cell_changes_its_fingerprint_and_nothing_else_does():
    def decided(*arguments, seeds=(0, 1), dataset=None):
        (cell,) = cells("--methods", "none", *arguments)
        return fingerprint(cache_key(cell, seeds, None, dataset or load("digits")))

    one = decided()
    for same in (["--out", "x"], ["--resume"], ["--devices", "1"], ["--seeds-at-once", "2"], ["--methods", "none"]):
        assert decided(*same) == one
    for other in (["--timesteps", "3"], ["--learning-rate", "1"], ["--methods", "sta"], ["--sweep", "epochs=3"]):
        assert decided(*other) != one
    assert decided(seeds=(0, 1, 2)) != one
    digits = load("digits")
    digits.test.labels[0] = (digits.test.labels[0] + 1) % 10
    assert decided(dataset=digits) != one
    assert decided("--methods", "sta", "--hyper", "beta=0.15") == decided("--methods", "sta")  # its default


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_intervals_are_of_student_s_t_and_of_the_bootstrap_of_paired_differences(seeds):
    """scipy's; the bootstrap within what 9999 draws leave to chance, and from five seeds on."""
    rng = np.random.default_rng(seeds)
    ours, reference = rng.normal(0.9, 0.02, seeds), rng.normal(0.88, 0.02, seeds)
    found = comparison.paired_difference(ours, reference)
    assert found.mean == pytest.approx(ours.mean() - reference.mean(), abs=1e-12)
    np.testing.assert_allclose(found.interval, stats.ttest_rel(ours, reference).confidence_interval(), atol=1e-12)
    assert (found.bootstrap is None) == (seeds < 5)
    if seeds >= 5:
        scipys = stats.bootstrap((ours - reference,), np.mean, method="percentile").confidence_interval
        spread = np.std(ours - reference) / np.sqrt(seeds)
        np.testing.assert_allclose(found.bootstrap, scipys, atol=0.15 * spread)


def test_one_and_two_seeds_have_no_interval_and_equal_differences_one_without_width():
    assert comparison.paired_difference([0.75], [0.5]) == (0.25, None, None)
    assert comparison.paired_difference([0.75, 1.0], [0.5, 0.75]) == (0.25, None, None)
    assert comparison.paired_difference([0.5] * 5, [0.25] * 5) == (0.25, [0.25, 0.25], [0.25, 0.25])


def result(accuracy, validation):
    """The result of a cell with two seeds."""
    return {
        "test_accuracy": [accuracy, accuracy],
        "val_accuracy": [validation - 0.1, validation + 0.1],
        "accuracy_by_timestep": [[0, accuracy], [1, accuracy]],
        "seconds": 1.0,
    }


def test_another_setting_is_compared_with_the_reference_in_the_same_setting():
    made = cells("--methods", "none,uniform_kd,seal", "--sweep", "temperature=2,3", "top_k=1,2")
    rows = {row["name"]: row for row in comparison.make_rows(made, [result(k / 100, 0.5) for k in range(len(made))])}
    assert rows["uniform_kd temperature=2"]["difference"] is None and rows["none"]["std"] == 0
    assert rows["seal temperature=2 top_k=2"]["difference"] == pytest.approx(0.03)  # 4 to 1
    assert rows["seal temperature=3 top_k=1"]["difference"] == pytest.approx(0.03)  # 5 to 2
    assert rows["seal temperature=3 top_k=1"]["against"] == "uniform_kd temperature=3"
    assert rows["none"]["accuracy_by_timestep_mean"] == [0.5, 0] and rows["none"]["validation"] == 0.5
    chosen = [name for name, row in rows.items() if row["chosen"]]  # of equals the first
    assert chosen == ["seal temperature=2 top_k=1", "uniform_kd temperature=2", "none"]


def test_a_method_stands_for_the_setting_that_validation_chooses():
    """Whatever the test split says of others: its place, its difference, and the reference's setting."""
    made = cells("--methods", "uniform_kd,seal,none", "--sweep", "temperature=2,3")
    results = [result(0.7, 0.6), result(0.6, 0.7), result(0.99, 0.6), result(0.5, 0.7), result(0.55, 0.1)]
    rows = comparison.make_rows(made, results)
    assert [row["name"] for row in rows] == [
        *("uniform_kd temperature=2", "uniform_kd temperature=3", "none"),
        *("seal temperature=2", "seal temperature=3"),
    ]
    chosen = {row["method"]: row for row in rows if row["chosen"]}
    assert {method: row["name"] for method, row in chosen.items()} == {
        **{"uniform_kd": "uniform_kd temperature=3", "seal": "seal temperature=3", "none": "none"},
    }
    assert chosen["seal"]["difference"] == pytest.approx(-0.1) and chosen["none"]["difference"] == pytest.approx(-0.05)
    assert chosen["none"]["against"] == "uniform_kd temperature=3"


# ---- the program

SMALL = ["digits", "--methods", "none,uniform_kd,tser", "--seeds", "2", "--epochs", "1", "--student", "spiking-mlp"]
SMALL += ["--timesteps", "2", "--devices", "1", "--teacher-logits", "own.npz", "--out", "out"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A current directory with a user's own teacher logits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("compare"))
        np.savez("own.npz", logits=4 * np.eye(10, dtype=np.float32)[load("digits").train.labels])
        yield Path.cwd()


@pytest.fixture(scope="module")
def out(workplace):
    compare.main(SMALL)
    return workplace / "out"


@pytest.mark.parametrize("finished", [True, False])
def test_a_comparison_is_not_evaluated(finished, out, tmp_path):
    (tmp_path / "config.json").write_bytes((out / "config.json").read_bytes())
    with pytest.raises(InputError, match="a comparison, not a run"):
        evaluate.main([str(out if finished else tmp_path)])


def test_a_comparison_writes_what_it_promises(out):
    comparison, found = read(out / "comparison.json"), [read(path) for path in (out / "cells").iterdir()]
    assert {"config.json", "comparison.csv", "report.html", "plots"} <= {path.name for path in out.iterdir()}
    by_method = {cell["key"]["options"]["method"]: cell for cell in found}
    means = [row["mean"] for row in comparison["rows"]]
    assert means == sorted(means, reverse=True) and all(row["chosen"] for row in comparison["rows"])
    assert {row["name"]: row["unconfirmed"] for row in comparison["rows"]} == {
        **{"none": False, "uniform_kd": False, "tser": True},
    }
    for row in comparison["rows"]:
        cell = by_method[row["method"]]
        assert row["test_accuracy"] == cell["test_accuracy"] == [of[-1] for of in cell["accuracy_by_timestep"]]
        assert row["mean"] == pytest.approx(np.mean(cell["test_accuracy"]))
        assert row["std"] == pytest.approx(np.std(cell["test_accuracy"], ddof=1))
        assert min(cell["test_accuracy"]) > 0.5 and len(set(cell["params_digest"])) == 2
        expected = np.subtract(cell["test_accuracy"], by_method["uniform_kd"]["test_accuracy"]).mean()
        difference = row["difference"]
        assert difference is None if row["method"] == "uniform_kd" else difference == pytest.approx(expected)
    with (out / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["mean"]) for line in lines] == [row["mean"] for row in comparison["rows"]]
    chosen_by = [np.mean(by_method[line["method"]]["val_accuracy"]) for line in lines]
    assert [float(line["validation"]) for line in lines] == pytest.approx(chosen_by)
    assert [float(line["seed_1"]) for line in lines] == [row["test_accuracy"][1] for row in comparison["rows"]]


def test_logits_without_fingerprints_are_marked_in_a_comparison(out):
    found = read(out / "comparison.json")
    assert found["teacher"] == "own.npz (unverified)"
    assert comparison.comparison_table(found).caption.startswith("the teacher's logits: own.npz (unverified)")
    assert "They learned from the logits of own.npz (unverified)." in (out / "report.html").read_text()
    assert read(out / "config.json")["source"].startswith("unverified float32 [1, ")


@pytest.mark.slow
def test_a_finished_cell_is_not_run_again_and_a_changed_one_is(out, monkeypatch, capsys):
    """Killed in its second cell, and started again: what is finished is kept, and the rest is the same."""
    whole, trained = read(out / "comparison.json"), []

    def counted(plan, *args, **kwargs):
        trained.append(plan.method.func.__name__)
        if kill and len(trained) == 2:
            raise KeyboardInterrupt
        return train_seeds(plan, *args, **kwargs)

    monkeypatch.setattr(compare, "train_seeds", counted)
    assert refusal(SMALL, capsys, main=compare.main) == (
        "error: --out out: not empty; add --resume to continue it, or choose another --out"
    )
    kill, two = True, [*SMALL, "--methods", "none,uniform_kd", "--out", "parts"]
    with pytest.raises(KeyboardInterrupt):
        compare.main(two)
    kill, trained[:] = False, []
    compare.main([*two, "--resume"])
    assert trained == ["uniform_kd"]
    accuracies = {row["name"]: row["test_accuracy"] for row in read(Path("parts/comparison.json"))["rows"]}
    assert accuracies == {row["name"]: row["test_accuracy"] for row in whole["rows"] if row["name"] != "tser"}
    trained.clear()
    capsys.readouterr()
    compare.main([*SMALL, "--resume", "--methods", "none,tser", "--hyper", "lam=0.1", "--tensorboard"])
    assert trained == ["tser"]
    said = capsys.readouterr()
    assert "epochs 1/2: none, done before" in said.err and "warning" not in said.err
    assert "tser †" in said.out and "report.html" in said.out and "comparison.csv" in said.out
    rows = read(out / "comparison.json")["rows"]
    assert all(row["difference"] is None for row in rows)  # no uniform_kd
    by_name = {row["name"]: row for row in rows}
    boards = [scalars(out / "tensorboard" / "tser" / f"seed {seed}")["accuracy/validation"] for seed in (0, 1)]
    assert [[step for step, _ in board] for board in boards] == [[1], [1]]
    assert np.mean([board[0][1] for board in boards]) == pytest.approx(by_name["tser"]["validation"])
    (cell,) = Path("parts/cells").glob("none-*.json")
    cell.write_text(json.dumps(read(cell) | {"commit": "an earlier one"}))
    compare.main([*two, "--resume"])
    assert "warning: parts/cells: some have another commit than this start" in capsys.readouterr().err
    better = json.dumps(read(cell) | {"val_accuracy": [1.0, 1.0]})
    for damaged in ("{", "[]", '{"test_accuracy": [1.0]}', better):
        cell.write_text(damaged)
        assert f"{cell}: damaged" in refusal([*two, "--resume"], capsys, chatty=True, main=compare.main)
    for other, why in {'{"options": {"method": "seal"}}': "--out parts: holds something other", "{": "damaged"}.items():
        Path("parts/config.json").write_text(other)
        assert why in refusal([*two, "--resume"], capsys, main=compare.main)
