"""The benchmarks run, say what is missing, and leave their numbers; how fast anything is, they do not assert."""

import json
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax import lif, seal_kd_loss
from sealkd_jax.models import REMAT, create_student
from sealkd_jax.training import Batch
from train.benchmark import loss
from train.benchmark.__main__ import SUBJECTS, main
from train.benchmark.step import CLASSES, as_in_an_epoch, in_a_row, seal_step
from train.benchmark.timing import Floor, Timing, in_turn, ratio

torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")


def test_what_is_compared_is_run_in_turn_after_a_round_that_does_not_count():
    called = []
    timings = in_turn({name: lambda name=name: called.append(name) for name in "ab"}, repeats=3, handled=5)
    assert "".join(called) == "ab" * 4
    assert {name: (len(t.wall), t.handled) for name, t in timings.items()} == {"a": (3, 5), "b": (3, 5)}


def test_ratios_are_paired_by_round_and_rates_are_per_second():
    slow, fast = Timing([2.0, 40.0, 6.0], [4.0, 4.0, 4.0], 8), Timing([4.0, 20.0, 12.0], [1.0, 1.0, 1.0], 8)
    assert ratio(slow, fast) == 0.5  # of 0.5, 2, 0.5
    assert (slow.seconds, slow.rate, slow.rate_of_a_core) == (6.0, 8 / 6, 2.0)
    assert Floor(operations=10, bytes=4).seconds(20, 4) == 2 and Floor(10, 4).seconds(1, 8) == 2


SMALL = {
    "loss": ["--repeats", "1", "--calls", "1"],
    "lif": ["--shape", "2", "3", "4", "--repeats", "2", "--calls", "2"],
    "step": ["--width", "0.05", "--batch-size", "2", "--timesteps", "1", "--repeats", "1", "--calls", "2"],
    "memory": ["--width", "0.05", "--batch-size", "2", "--size", "8", "--timesteps", "1", "2"],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of SpikingJelly
@pytest.mark.parametrize("subject", SMALL)
def test_a_benchmark_prints_a_table_and_leaves_numbers(subject, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loss, "SHAPES", ((2, 3, 4),))
    for module in ("loss", "lif", "step"):  # products of large matrices, here of no interest
        monkeypatch.setattr(f"train.benchmark.{module}.measure_floor", lambda *_: Floor(1e9, 1e9), raising=False)
    out = tmp_path / "there" / "numbers.json"
    main([subject, *SMALL[subject], "--out", str(out)])
    numbers, said = json.loads(out.read_text()), capsys.readouterr().out
    assert {"versions", "device", "command"} <= numbers.keys()
    assert str(out) in " ".join(said.split())
    if subject != "memory" and not find_spec("torch"):
        assert "not installed" in " ".join(said.lower().split())
    if subject == "memory":
        assert {remat: set(of) for remat, of in numbers["temporary"].items()} == {remat: {"1", "2"} for remat in REMAT}
    else:
        assert all(min(seconds) > 0 for seconds in numbers["seconds"].values())
    if subject in ("lif", "step"):  # of one call of two
        ours = next(iter(numbers["seconds"].values()))
        assert f" {1e3 * np.median(ours) / 2:.4g} ms " in said


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_has_a_help_of_its_own_and_measures_nothing(subject, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([subject, "--help"])
    assert end.value.code == 0 and f"benchmark {subject}" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_steps_of_one_program_are_steps_one_after_another(float64):
    network = create_student("spiking-mlp", CLASSES, width=0.25, precision="float64")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 1)))
    state, step = seal_step(network, images, timesteps=2)
    batches, progress = in_a_row(Batch(images, jnp.arange(2), jnp.ones((2, CLASSES))), 3)
    together, metrics = jax.jit(as_in_an_epoch(step))(state, batches, progress)
    for number in range(3):
        state, _ = jax.jit(step)(state, jax.tree.map(lambda x, n=number: x[n], batches), number / 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), together, state)
    assert metrics["loss"].shape == (3,)


@pytest.mark.slow
@torch
def test_the_loss_in_pytorch_is_ours(float64):
    """So that the two programs that are timed do the same work."""
    from torch import from_numpy

    from train.benchmark import in_pytorch

    rng = np.random.default_rng(0)
    student, teacher, labels = 3 * rng.normal(size=(4, 9, 5)), 3 * rng.normal(size=(9, 5)), rng.integers(0, 5, 9)
    expected, gradient = jax.value_and_grad(lambda s: seal_kd_loss(s, teacher, jnp.asarray(labels)).mean())(student)
    tensor = from_numpy(student).requires_grad_()
    theirs = in_pytorch.seal_kd_loss(tensor, from_numpy(teacher), from_numpy(labels))
    theirs.backward()
    assert theirs.item() == pytest.approx(float(expected), rel=1e-6)  # torch.log of the number of classes is float32
    np.testing.assert_allclose(tensor.grad, gradient, atol=1e-6)


@pytest.mark.slow
@torch
def test_the_neuron_in_pytorch_is_ours():
    from torch import from_numpy

    from train.benchmark import in_pytorch

    currents = np.random.default_rng(0).normal(0.5, 1, (5, 40)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=currents.shape).astype(np.float32)
    gradient = jax.grad(lambda x: (lif(x)[0] * weights).sum())(jnp.asarray(currents))
    tensor = from_numpy(currents).requires_grad_()
    spikes = in_pytorch.lif(tensor)
    (spikes * from_numpy(weights)).sum().backward()
    np.testing.assert_array_equal(spikes.detach(), lif(jnp.asarray(currents))[0])
    np.testing.assert_allclose(tensor.grad, gradient, rtol=1e-4, atol=1e-6)
