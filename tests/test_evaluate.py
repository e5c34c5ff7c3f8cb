"""What a network's layers do, what a run writes down of it, and how train.evaluate tells it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sealkd_jax.diagnostics import PICOJOULE_PER_AC, PICOJOULE_PER_MAC, firing_rate, mean_sta_weights
from sealkd_jax.models import ConvNet, Network, SpikingNet
from sealkd_jax.plots.words import percent
from sealkd_jax.programs.commands import evaluate
from sealkd_jax.programs.results import activity, energy_of, hardest
from sealkd_jax.training import Counts, on_devices, view_batch
from tests.helpers.finished_run import write_run
from tests.helpers.programs import refusal
from tests.helpers.small_training import make_dataset, make_spec, one_device

# ---- layers of weights


@pytest.mark.parametrize("remat", ["none", "full"])
def test_macs_are_every_weight_at_every_place_of_the_output(remat):
    """A 3x3 convolution from I to O features on HxW is H*W*9*I*O, a dense layer from I to O is I*O."""
    network = Network(SpikingNet(3, features=(4, 5), pool=(True, False), remat=remat))
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 6, 2)))
    assert [(name, layer.macs, layer.spikes) for name, layer in network.synapses(variables, (8, 6, 2)).items()] == [
        ("block_0/Conv_0", 8 * 6 * 9 * 2 * 4, False),
        ("block_1/Conv_0", 4 * 3 * 9 * 4 * 5, True),
        ("readout", 4 * 3 * 5 * 3, True),
    ]


def test_an_ann_has_no_layer_that_is_fed_by_spikes():
    network = Network(ConvNet(3, features=(4,), pool=(False,)))
    variables = network.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    expected = {"Conv_0": (36 * 9 * 4, False), "readout": (36 * 4 * 3, False)}
    layers = network.synapses(variables, (6, 6, 1))
    assert {name: (layer.macs, layer.spikes) for name, layer in layers.items()} == expected


@pytest.fixture(scope="module")
def surveyed():
    """A network of two blocks, its 17 test images, and what it does with them all at once."""
    network = Network(SpikingNet(3, features=(4, 5), pool=(True, False)))
    dataset = make_dataset()
    images = view_batch(make_spec(), on_devices(dataset.test, one_device()), 0).images
    variables = network.init(jax.random.key(0), images)
    observe = jax.jit(lambda v, x: network.observe(v, x, timesteps=3))
    return network, variables, dataset, observe(variables, images)


def test_inputs_are_counted_where_they_enter_a_layer_after_pooling(surveyed):
    *_, (_, spikes, inputs) = surveyed
    pooled = nn.max_pool(spikes["block_0/neuron"].reshape(-1, 6, 6, 4), (2, 2), strides=(2, 2))
    pooled = pooled.reshape(3, 17, -1).mean(-1)
    assert inputs["block_0/Conv_0"].shape == (1, 17)  # a static image: once for all timesteps
    np.testing.assert_allclose(inputs["block_1/Conv_0"], pooled, rtol=1e-5)
    np.testing.assert_allclose(inputs["readout"], spikes["block_1/neuron"].reshape(3, 17, -1).mean(-1), rtol=1e-5)
    assert pooled.mean() > spikes["block_0/neuron"].mean() > 0


# ---- what a run writes down


def test_activity_is_that_of_the_spikes():
    """Two examples, two timesteps, four neurons: one dead, one saturated, one silent for an example, one at a time."""
    spikes = np.array([[[0, 1, 1, 1], [0, 1, 0, 1]], [[0, 1, 0, 0], [0, 1, 0, 0]]])  # [T, B, neurons]
    of = activity(Counts({"a": spikes.sum(1), "b": np.zeros((2, 1, 4), int)}, {}), examples=2)
    np.testing.assert_allclose(of["firing_rates"]["a"], firing_rate(spikes))
    assert of["dead_share"] == {"a": 0.25, "b": 1.0} and of["saturated_share"] == {"a": 0.25, "b": 0.0}
    assert of["firing_rate"] == spikes.sum() / (2 * 2 * 8)


def test_energy_is_macs_of_the_image_once_and_accumulates_of_spikes(surveyed):
    network, variables, *_ = surveyed
    rates = {"block_0/Conv_0": np.ones(1), "block_1/Conv_0": np.array([0.5, 0.25, 0.0]), "readout": np.ones(3)}
    energy = energy_of(network, variables, (6, 6, 1), rates, 1)
    first, second, readout = 36 * 9 * 4, 9 * 9 * 4 * 5, 9 * 5 * 3
    assert energy["macs"] == {"block_0/Conv_0": first, "block_1/Conv_0": second, "readout": readout}
    snn = first * PICOJOULE_PER_MAC + (0.75 * second + 3 * readout) * PICOJOULE_PER_AC
    assert energy["snn_picojoule"] == pytest.approx(snn, rel=1e-6)
    assert energy["ann_picojoule"] == pytest.approx((first + second + readout) * PICOJOULE_PER_MAC)


def test_hardest_have_most_wrong_timesteps_then_the_lowest_margin():
    """Examples: always right; once wrong; always wrong, by little; always wrong, by much."""
    true = np.array([[2, 2, -1, -3], [2, -1, -1, -3]], float)  # [T, N], logit of class 0, the true one, against 0
    logits = np.stack([true, np.zeros_like(true)], -1)
    np.testing.assert_array_equal(hardest(logits, np.zeros(4, int)), [3, 2, 1])
    assert len(hardest(np.tile(logits, (1, 20, 1)), np.zeros(80, int))) == 12


# ---- train.evaluate


@pytest.fixture
def run(tmp_path):
    """The smallest finished run: two timesteps, of which the second is wrong for a quarter of 40 examples."""
    logits = np.tile(np.array([4.0, 0.0], np.float32), (2, 40, 1))
    logits[1, 30:] = [0.0, 1.0]
    return write_run(tmp_path, logits, np.zeros(40, np.int32), logits[0])


def test_it_says_what_the_timesteps_do_and_whether_it_pays(run, capsys):
    evaluate.main([str(run)])
    words = " ".join(capsys.readouterr().out.split())
    for said in ("75.00 %", "12.50 %", "6.25 %", "500 pJ", "2 µJ", "4,000"):
        assert said in words
    assert "This network has the timestep variance on which SeAl-KD pays: 12.50 % of the timesteps" in words


@pytest.mark.parametrize("timesteps", [1, 4, *(pytest.param(t, marks=pytest.mark.slow) for t in (6, 9, 10, 16))])
def test_every_timestep_has_a_row_of_80_characters(run, timesteps, capsys, monkeypatch):
    """Timestep t is right about the first t examples, and the teacher answers as the first timestep does."""
    monkeypatch.setenv("COLUMNS", "80")
    labels = np.zeros(2 * timesteps, np.int32)
    right = np.arange(2 * timesteps) <= np.arange(timesteps)[:, None]
    logits = np.where(right[..., None], [4.0, 0.0], [0.0, 4.0]).astype(np.float32)
    write_run(run, logits, labels, logits[0])
    evaluate.main([str(run)])
    *lines, _ = capsys.readouterr().out.splitlines()  # without the verdict
    assert max(map(len, lines)) <= 80
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    for t in range(timesteps):
        number, after, alone, *_, teacher_alone = cells[t]
        agrees = (right[t] == right[0]).mean()
        assert (number, alone, teacher_alone) == (str(t + 1), percent(right[t].mean()), percent(agrees))
        assert after == percent((right[: t + 1].mean(0) >= 0.5).mean())  # of equals, the lowest class: the label
    listens_to_itself = [row for row in cells if len(row) == 1 + timesteps and row[:2] == ["1", "0.000"]]
    told_elsewhere = any("--json" in line for line in lines)
    assert (len(listens_to_itself), told_elsewhere) == (timesteps in range(2, 10), timesteps > 9)


def test_it_says_where_it_does_not_pay(run, capsys):
    write_run(run, np.tile(np.eye(2, dtype=np.float32), (2, 20, 1)), np.arange(40) % 2)
    evaluate.main([str(run)])
    words = capsys.readouterr().out
    assert "This network does not have the timestep variance on which SeAl-KD pays: 0.00 % of the timesteps" in words
    assert "teacher" not in words


def test_it_says_which_classes_are_confused_and_that_a_network_has_learned_nothing(run, capsys):
    logits = np.zeros((2, 40, 2), np.float32)
    logits[..., 1] = 1
    write_run(run, logits, np.arange(40) % 2)
    evaluate.main([str(run)])
    words = " ".join(capsys.readouterr().out.split())
    assert "a │ 0.00 % │ b ×20" in words and "b │ 100.00 % │ │" in words
    assert "Chance: 50.00 %. The most frequent class: 50.00 % of the examples." in words
    assert "No verdict on its timesteps. It predicts one class, 1, for 100.00 % of the examples: not trained." in words
    found = evaluate.diagnose(run)
    assert found["confusion"] == [[0, 20], [0, 20]] and found["verdict"]["worthwhile"] is None


def test_json_holds_the_same(run, capsys):
    evaluate.main([str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["worthwhile"] is True and found["verdict"]["erroneous_share"] == pytest.approx(1 / 8)
    assert found["accuracy_of_timestep"] == [1.0, 0.75] and found["accuracy_by_timestep"] == [1.0, 1.0]
    assert found["teacher_agreement_of_timestep"] == [1.0, 0.75] and found["right_where_wrong"] is None
    assert found["neurons"]["stem"] == {"firing_rate": [0.25, 0.25], "dead_share": 0.125, "saturated_share": 0.0625}


def test_sta_weights_are_those_of_the_run_s_own_hyper_parameters(run):
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    write_run(run, logits, np.zeros(5, int), hyper=["alpha=1", "score_temperature=0.05"])
    found = np.array(evaluate.diagnose(run)["sta_weights"])
    np.testing.assert_allclose(found, mean_sta_weights(logits, score_temperature=0.05), rtol=1e-5)
    assert np.abs(found - mean_sta_weights(logits)).max() > 0.01


def test_what_is_no_finished_run_is_named(run, tmp_path, capsys):
    def said(folder):
        return refusal([str(folder)], capsys, main=evaluate.main)

    summary, predictions = run / "summary.json", run / "predictions.npz"
    assert said(tmp_path / "none").endswith("none: no run there (no summary.json)")
    whole = predictions.read_bytes()
    for damaged in (whole[:100], b"not arrays", b""):
        predictions.write_bytes(damaged)
        assert "predictions.npz: cannot be read" in said(run)
    np.savez(predictions, logits=np.zeros((2, 40, 2), np.float32), labels=np.zeros(3, int))
    assert "predictions.npz: damaged: expected the file that summary.json was written with" in said(run)
    predictions.write_bytes(whole)
    old = json.loads(summary.read_text())
    del old["energy"]
    summary.write_text(json.dumps(old))
    assert "summary.json: damaged: energy: missing" in said(run)
    for damaged in ("{", "[]"):
        summary.write_text(damaged)
        assert "damaged: " in said(run)
    summary.unlink()
    (run / "config.json").write_text("{}")
    assert f"not finished; continue it with sealkd distill --resume --out {run}" in said(run)
