"""The figures draw the arrays they are given, and their labels neither overlap nor lie."""

import re

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from sealkd_jax.diagnostics import expected_calibration_error
from sealkd_jax.plots import comparison, learning, predictions, spikes, timesteps
from sealkd_jax.plots.panels import PANELS
from sealkd_jax.plots.style import COLOURS, draw_lines, new_axes, to_png, to_svg


def curves(axis):
    """The lines of an axis as (x, y), in the order in which they were drawn."""
    return [(line.get_xdata(), line.get_ydata()) for line in axis.get_lines()]


def legend(axis):
    """The names in the legend, from the top."""
    return [text.get_text() for text in axis.get_legend().get_texts()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_accuracy_by_timestep_draws_the_arrays():
    accumulated, alone = [0.5, 0.7, 0.8], [0.5, 0.6, 0.75]
    figure = timesteps.accuracy_by_timestep(accumulated, alone, n_test=100, teacher_accuracy=0.9)
    (axis,) = figure.axes
    (x, first), (_, second), *others = curves(axis)
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_array_equal(first, accumulated)
    np.testing.assert_array_equal(second, alone)
    assert any(np.all(np.asarray(y) == 0.9) for _, y in others)  # the teacher
    bars = [segment[:, 1] for container in axis.containers for segment in container.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars[0], [0.5 - 0.05, 0.5 + 0.05])  # √(0.5 · 0.5 / 100)
    np.testing.assert_allclose(bars[2], [0.8 - 0.04, 0.8 + 0.04])
    assert legend(axis) == ["teacher 90.00 %", "accumulated 80.00 %", "alone 75.00 %"]


def test_learning_curves_draw_the_metrics():
    metrics = [
        {
            "epoch": e,
            "loss": 3.0 / e,
            "terms": {"ce": 2.0 / e, "wrong": 0.5 / e},
            "train_accuracy": 0.5 + e / 10,
            "val_accuracy": 0.4 + e / 10,
            "learning_rate": 0.1 * e,
            "grad_norm": 7.0 - e,
        }
        for e in (1, 2, 3)
    ]
    (axis,) = learning.loss(metrics).axes
    (x, total), (_, ce) = curves(axis)
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_allclose(total, [3, 1.5, 1])
    np.testing.assert_allclose(ce, [2, 1, 2 / 3])  # and "wrong", which is a share, is not among them

    (axis,) = learning.accuracy(metrics, teacher_accuracy=None, best_epoch=2).axes
    (_, validation), (_, training), (best_x, best_y) = curves(axis)
    np.testing.assert_allclose(validation, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(training, [0.6, 0.7, 0.8])
    np.testing.assert_allclose([best_x[0], best_y[0]], [2, 0.6])

    (axis,) = learning.wrong_timesteps(metrics).axes
    np.testing.assert_allclose(curves(axis)[0][1], [0.5, 0.25, 0.5 / 3])
    rate, norm = learning.optimisation(metrics).axes
    np.testing.assert_allclose(curves(rate)[0][1], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(curves(norm)[0][1], [6, 5, 4])


def test_a_term_that_starts_late_or_is_null_leaves_a_gap():
    metrics = [
        {"epoch": 1, "loss": None, "terms": {"ce": 1.0}},
        {"epoch": 2, "loss": 2.0, "terms": {"ce": 1.0, "dkd": 0.0}},
    ]
    (axis,) = learning.loss(metrics).axes
    np.testing.assert_array_equal([y for _, y in curves(axis)], [[np.nan, 2], [1, 1], [np.nan, 0]])
    assert axis.get_yscale() == "linear"  # a zero has no logarithm


def test_firing_rates_are_drawn_and_written():
    (axis,) = spikes.firing_rates({"a": [0.1, 0.25], "b": [0.0, 1.0]}).axes
    (image,) = axis.get_images()
    np.testing.assert_allclose(image.get_array(), [[0.1, 0.25], [0.0, 1.0]])
    assert texts(axis) == ["10.0", "25.0", "0.0", "100.0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_ylim() == (1.5, -0.5)  # the first layer on top


def test_the_legend_names_lines_from_the_highest_end_and_takes_names_as_they_are():
    _, (axis,) = new_axes("title")
    draw_lines(axis, [1, 2], {"low": np.array([9, 1.0]), "gap": np.array([1, np.nan]), "$x^{$": np.array([0, 2.5])})
    assert legend(axis) == ["$x^{$ 2.5", "low 1", "gap"]
    assert not any(text.get_parse_math() for text in axis.get_legend().get_texts())


def test_svg_uses_the_theme_and_no_other_colour():
    figure = timesteps.accuracy_by_timestep([0.5, 0.7], [0.5, 0.6], n_test=10, teacher_accuracy=0.9)
    svg = to_svg(figure, "f", "words")
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(COLOURS)
    assert re.findall(r"(?<=: )#[0-9a-f]{6}", svg) == []


def test_error_raster_sorts_counts_and_collapses():
    wrong = np.array([[0, 1, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1]], bool)  # [T, N]
    figure = timesteps.error_raster(wrong)
    (axis,) = figure.axes
    (image,) = axis.get_images()
    np.testing.assert_array_equal(
        image.get_array()[..., 3] > 0, [[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 1]]
    )  # transparent where right
    assert figure.texts[-1].get_text() == "2 of 6 examples are right at every timestep, 1 at none"


@pytest.mark.parametrize(("wrong", "right"), [(np.zeros((3, 5), bool), 5), (np.ones((16, 5), bool), 0)])
def test_error_raster_without_errors_and_without_anything_right(wrong, right):
    figure = timesteps.error_raster(wrong)
    assert f"{right} of 5 examples" in figure.texts[-1].get_text()
    assert to_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [2, 4, 12])
def test_sta_weights_are_drawn_and_written(count):
    weights = np.random.default_rng(0).random((count, count)) * (1 - np.eye(count))
    weights /= weights.sum(1, keepdims=True)
    figure = timesteps.sta_weights(weights)
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.get_images()[0].get_array(), weights)
    if count < 12:
        written = np.reshape(texts(axis), (count, count))
        assert set(np.diag(written)) == {"–"}
        assert written[0, 1] == f"{weights[0, 1]:.3f}"
    assert to_svg(figure, "f", "words")


def test_confidence_by_timestep_draws_the_arrays():
    (axis,) = predictions.confidence_by_timestep(np.array([0.6, 0.9]), np.array([0.7, 0.8])).axes
    (_, confidence), (_, accuracy) = curves(axis)
    np.testing.assert_array_equal(confidence, [0.6, 0.9])
    np.testing.assert_array_equal(accuracy, [0.7, 0.8])


def test_reliability_bins_by_confidence():
    confidence = np.array([0.05, 0.68, 0.69, 0.71, 0.72, 1.0])
    right = np.array([False, True, True, False, True, True])
    figure = predictions.reliability(confidence, right)
    dots = figure.axes[0].collections[-1].get_offsets()
    np.testing.assert_allclose(dots, [[0.05, 0], [0.7, 0.75], [1, 1]])
    error = (1 * 0.05 + 4 * 0.05 + 1 * 0) / 6
    assert f"expected error {100 * error:.1f} %" in figure.get_suptitle()


def test_reliability_names_the_error_that_the_diagnostics_compute():
    rng = np.random.default_rng(0)
    logits, labels = 2 * rng.normal(size=(200, 5)).astype(np.float32), rng.integers(0, 5, 200)
    confidence = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True))).max(1)
    figure = predictions.reliability(confidence, logits.argmax(1) == labels)
    assert f"expected error {100 * expected_calibration_error(logits, labels):.1f} %" in figure.get_suptitle()


def test_energy_draws_totals_then_layers():
    (axis,) = spikes.energy(1500.0, 9e6, {"stem": 500.0, "head": 1000.0}).axes
    assert [bar.get_width() for bar in axis.patches] == [9e6, 1500, 500, 1000]
    assert [text.strip() for text in texts(axis)] == ["9 µJ", "1.5 nJ", "500 pJ", "1 nJ"]


def make_row(name, accuracies, *, difference=None, interval=None, bootstrap=None, chosen=True, **options):
    mean = float(np.mean(accuracies))
    return {
        "name": name,
        "method": name,
        "options": options,
        "chosen": chosen,
        "unconfirmed": False,
        "bootstrap": bootstrap,
        "test_accuracy": accuracies,
        "mean": mean,
        "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        "difference": difference,
        "interval": interval,
        "accuracy_by_timestep_mean": [mean - 0.1, mean],
    }


ROWS = [
    make_row("uniform_kd", [0.90, 0.92]),
    make_row("seal", [0.93, 0.95], difference=0.03, interval=[0.01, 0.05], bootstrap=[0.02, 0.04]),
    make_row("sta", [0.89, 0.91], difference=-0.01, interval=[-0.03, 0.01]),
    make_row("none", [0.80, 0.82], difference=-0.10, interval=[-0.12, -0.08]),
]


def test_accuracies_draw_every_seed_and_mean_best_on_top():
    (axis,) = comparison.accuracies(ROWS, reference="uniform_kd", teacher_accuracy=0.96).axes
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["none", "sta", "uniform_kd (reference)", "seal"]
    drawn = [set(np.round(np.asarray(x, float), 6)) for x, _ in curves(axis)]
    for row in ROWS:
        assert set(row["test_accuracy"]) in drawn
        assert {round(row["mean"], 6)} in drawn
    assert texts(axis) == ["teacher 96.00 %"]


@pytest.mark.parametrize(("accuracy", "label"), [(0.2, "teacher 20.00 % ←"), (1.0, "teacher 100.00 % →")])
def test_a_far_teacher_does_not_flatten_the_differences(accuracy, label):
    rows = [make_row("none", [0.50, 0.51]), make_row("seal", [0.52, 0.53])]
    (axis,) = comparison.accuracies(rows, reference="none", teacher_accuracy=accuracy).axes
    low, high = axis.get_xlim()
    assert low > 0.49 and high < 0.54
    assert texts(axis) == [label]


def test_differences_are_hollow_where_the_interval_includes_zero():
    (axis,) = comparison.differences(ROWS, reference="uniform_kd").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["none", "sta", "seal"]
    dots = [line for line in axis.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], [-10, -1, 3])
    hollow = [dot.get_markerfacecolor() != dot.get_color() for dot in dots]
    assert hollow == [False, True, False]
    intervals = [line.get_xdata() for line in axis.get_lines() if line.get_marker() == "None"][1:]
    np.testing.assert_allclose(intervals, [[-12, -8], [-3, 1], [1, 5], [2, 4]])


def test_a_sweep_is_a_curve_through_the_chosen_setting():
    settings = {("2", "0.1"): 0.8, ("10", "0.1"): 0.9, ("2", "0.2"): 0.6, ("10", "0.2"): 0.7}
    rows = [
        make_row("seal", [mean, mean], temperature=t, learning_rate=lr, chosen=(t, lr) == ("2", "0.1"))
        for (t, lr), mean in settings.items()
    ]
    rows += [make_row("none", [0.5, 0.7], learning_rate=lr, chosen=lr == "0.2") for lr in ("0.1", "0.2")]
    temperature, rate = comparison.sweep(rows).axes
    assert [label.get_text() for label in temperature.get_xticklabels()] == ["2", "10"]  # in order of size
    assert [y.tolist() for _, y in curves(temperature)] == [[0.8, 0.9]]  # at the chosen rate
    assert [y.tolist() for _, y in curves(rate)] == [[0.8, 0.6], [0.6, 0.6]]
    assert legend(temperature) == ["seal"] and set(legend(rate)) == {"seal", "none"}
    rings = [ring.get_offsets().tolist() for ring in rate.collections if isinstance(ring, PathCollection)]
    assert rings == [[[0, 0.8]], [[1, 0.6]]]


def test_energy_has_a_point_for_every_setting():
    rows = [row | {"picojoule": 1e6 * k} for k, row in enumerate(ROWS, 1)]
    (axis,) = comparison.accuracy_by_energy(rows).axes
    points = {(float(np.ravel(x)[0]), float(np.ravel(y)[0])) for x, y in curves(axis) if np.size(x) == 1}
    assert {(row["picojoule"], row["mean"]) for row in rows} <= points
    assert [text.get_text() for text in axis.texts] == [row["name"] for row in rows]
    assert PANELS["accuracy_by_energy"].inputs({"rows": ROWS}) is None


def test_ladder_climbs_in_the_order_of_its_ideas_with_sta_beside():
    (axis,) = comparison.ladder(ROWS).axes
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == ["none\n81.00 %", "uniform_kd\n91.00 %", "seal\n94.00 %", "sta\n90.00 %"]
    np.testing.assert_allclose(curves(axis)[0][1], [0.81, 0.91, 0.94])
    (axis,) = comparison.ladder_by_timestep(ROWS).axes
    np.testing.assert_allclose([y for _, y in curves(axis)], [[0.71, 0.81], [0.81, 0.91], [0.84, 0.94], [0.80, 0.90]])
