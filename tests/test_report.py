"""The report of a run: it loads nothing, says what the files say, and draws the arrays it was given."""

import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sealkd_jax import plots
from sealkd_jax.plots.style import COLOURS, end_labels, new_axes, spread, to_svg
from sealkd_jax.report import write_report

VOID = {"meta", "br", "img", "hr", "link", "input"}
METHOD_TERMS = ("ce", "ela", "sta", "wrong")


class Page(HTMLParser):
    """Checks that every element is closed in order; keeps the text, the attributes and the ids."""

    def __init__(self, html):
        super().__init__()
        self.open, self.words, self.attributes = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *attribute) for attribute in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def make_run(folder, *, timesteps=4, classes=10, examples=60, epochs=3, teacher=True, **changes):
    """A run directory as training writes it, with numbers from a fixed generator."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, examples)
    logits = rng.normal(size=(timesteps, examples, classes)).astype(np.float32)
    logits[:, np.arange(examples), labels] += 2
    arrays = {"logits": logits, "labels": labels}
    if teacher:
        arrays["teacher_logits"] = logits.mean(0)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", **arrays)
    summary = {
        "preset": "digits",
        "dataset": "digits",
        "method": "seal",
        "seed": 7,
        "timesteps": timesteps,
        "epochs_done": epochs,
        "best_epoch": epochs,
        "val_accuracy": 0.8765,
        "test_accuracy": float((logits.sum(0).argmax(-1) == labels).mean()),
        "accuracy_by_timestep": (np.cumsum(logits, 0).argmax(-1) == labels).mean(1).tolist(),
        "accuracy_of_timestep": (logits.argmax(-1) == labels).mean(1).tolist(),
        "teacher_accuracy": 0.9432 if teacher else None,
        "train_seconds": 200.0,
        "examples_per_second": 12345.6,
        "params_digest": "c0ffee",
        "firing_rate": 0.1234,
        "firing_rates": {"stem": [0.1] * timesteps, "block1": [0.2] * timesteps},
        "n_test": examples,
        "classes": None,
    }
    config = {
        "options": {"preset": "digits", "epochs": epochs, "data_dir": None},
        "versions": {"python": "3.11.9", "jax": "0.10.2"},
        "device": "cpu x1",
        "commit": None,
        "command": "python -m train.distill digits",
    }
    lines = [
        {
            "epoch": epoch,
            "loss": 2.0 / epoch,
            "terms": {name: 1.0 / epoch for name in METHOD_TERMS},
            "train_accuracy": 1 - 0.5 / epoch,
            "val_accuracy": 1 - 0.6 / epoch,
            "learning_rate": 1e-3,
            "grad_norm": 1.0,
            "seconds": 1.0,
            "examples_per_second": 12345.6,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "config.json").write_text(json.dumps(config | changes.get("config", {})))
    (folder / "summary.json").write_text(json.dumps(summary | changes.get("summary", {})))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(path):
    html = path.read_text()
    return html, Page(html)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with its report."""
    folder = make_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


def test_report_is_one_page_that_loads_nothing(run):
    html, page = read(run / "report.html")
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert "http" not in re.sub("http-equiv", "", html)
    assert re.findall(r"url\((?!#)", html) == []
    assert "@import" not in html and "<script" not in html


def test_report_has_every_figure_as_svg_and_png(run):
    _, page = read(run / "report.html")
    figures = {value for tag, name, value in page.attributes if tag == "figure" and name == "id"}
    assert figures >= {
        "accuracy_by_timestep",
        "firing_rates",
        "accuracy",
        "loss",
        "wrong_timesteps",
        "optimisation",
    }
    pngs = {png.stem: png.read_bytes() for png in (run / "plots").iterdir()}
    assert set(pngs) == figures
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())
    assert [tag for tag, name, value in page.attributes if tag == "svg" and name == "role"] == ["svg"] * len(
        figures
    )


def test_ids_are_unique_and_references_resolve(run):
    html, page = read(run / "report.html")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in page.attributes if name == "xlink:href"}
    targets |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert targets and targets <= set(ids)


def test_report_says_what_the_summary_says(tmp_path):
    summary = {"test_accuracy": 0.9182, "n_test": 360}
    _, page = read(write_report(make_run(tmp_path, summary=summary)))
    assert "91.82 % of 360 test examples right after 4 timesteps" in page.text
    assert "2.50 percentage points below its teacher’s 94.32 %" in page.text
    for said in (
        "± 1.44",
        "87.65 %",
        "12.34 % of neurons",
        "3 min 20 s",
        "12,346 examples per second",
        "c0ffee",
    ):
        assert said in page.text
    for said in ("python -m train.distill digits", "cpu x1", "--data-dir", "3.11.9", "0.10.2"):
        assert said in page.text


def test_names_are_escaped(tmp_path):
    hostile = "<script>alert('&')</script>\"$x^{$"
    config = {
        "command": hostile,
        "device": hostile,
        "options": {hostile: hostile},
        "versions": {hostile: hostile},
    }
    summary = {"dataset": hostile, "preset": hostile, "firing_rates": {hostile: [0.5] * 4}}
    html, page = read(write_report(make_run(tmp_path, config=config, summary=summary)))
    assert "<script" not in html
    assert page.text.count(hostile) >= 5


@pytest.mark.parametrize(
    "size",
    [
        {"timesteps": 1, "epochs": 1, "teacher": False},
        {"timesteps": 1, "epochs": 2},
        {"timesteps": 16, "classes": 1000, "epochs": 1},
        {"timesteps": 2, "classes": 2, "examples": 1},
    ],
    ids=str,
)
def test_report_of_unusual_sizes(tmp_path, size):
    _, page = read(write_report(make_run(tmp_path, **size)))
    assert ("no teacher" in page.text) == (size.get("teacher") is False)
    assert f"after {size['timesteps']} timestep" in page.text


def test_writing_again_replaces_and_leaves_nothing_else(tmp_path):
    write_report(make_run(tmp_path, summary={"val_accuracy": 0.1111}))
    path = write_report(make_run(tmp_path, summary={"val_accuracy": 0.2222}))
    assert "22.22 %" in path.read_text() and "11.11 %" not in path.read_text()
    written = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert not [name for name in written if name.startswith(".")]


def curves(axis):
    """The lines of an axis as (x, y), in the order in which they were drawn."""
    return [(line.get_xdata(), line.get_ydata()) for line in axis.get_lines()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_accuracy_by_timestep_draws_the_arrays():
    accumulated, alone = [0.5, 0.7, 0.8], [0.5, 0.6, 0.75]
    figure = plots.accuracy_by_timestep(accumulated, alone, n_test=100, teacher_accuracy=0.9)
    (axis,) = figure.axes
    (x, first), (_, second), *others = curves(axis)
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_array_equal(first, accumulated)
    np.testing.assert_array_equal(second, alone)
    assert any(np.all(np.asarray(y) == 0.9) for _, y in others)  # the teacher
    bars = [
        segment[:, 1] for container in axis.containers for segment in container.lines[2][0].get_segments()
    ]
    np.testing.assert_allclose(bars[0], [0.5 - 0.05, 0.5 + 0.05])  # √(0.5 · 0.5 / 100)
    np.testing.assert_allclose(bars[2], [0.8 - 0.04, 0.8 + 0.04])
    assert {"accumulated 80 %", "alone 75 %", "teacher 90 %"} == set(texts(axis))


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
    (axis,) = plots.loss_curves(metrics).axes
    (x, total), (_, ce) = curves(axis)
    np.testing.assert_array_equal(x, [1, 2, 3])
    np.testing.assert_allclose(total, [3, 1.5, 1])
    np.testing.assert_allclose(ce, [2, 1, 2 / 3])  # and "wrong", which is a share, is not among them

    (axis,) = plots.accuracy_curves(metrics, teacher_accuracy=None, best_epoch=2).axes
    (_, validation), (_, training), (best_x, best_y) = curves(axis)
    np.testing.assert_allclose(validation, [0.5, 0.6, 0.7])
    np.testing.assert_allclose(training, [0.6, 0.7, 0.8])
    np.testing.assert_allclose([best_x[0], best_y[0]], [2, 0.6])

    (axis,) = plots.wrong_timesteps(metrics).axes
    np.testing.assert_allclose(curves(axis)[0][1], [0.5, 0.25, 0.5 / 3])
    rate, norm = plots.optimisation(metrics).axes
    np.testing.assert_allclose(curves(rate)[0][1], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(curves(norm)[0][1], [6, 5, 4])


def test_a_term_that_starts_late_or_is_null_leaves_a_gap():
    metrics = [
        {"epoch": 1, "loss": None, "terms": {"ce": 1.0}},
        {"epoch": 2, "loss": 2.0, "terms": {"ce": 1.0, "dkd": 0.0}},
    ]
    (axis,) = plots.loss_curves(metrics).axes
    np.testing.assert_array_equal([y for _, y in curves(axis)], [[np.nan, 2], [1, 1], [np.nan, 0]])
    assert axis.get_yscale() == "linear"  # a zero has no logarithm


def test_firing_rates_are_drawn_and_written():
    (axis,) = plots.firing_rates({"a": [0.1, 0.25], "b": [0.0, 1.0]}).axes
    (mesh,) = axis.collections
    np.testing.assert_allclose(mesh.get_array(), [[0.1, 0.25], [0.0, 1.0]])
    assert texts(axis) == ["10.0", "25.0", "0.0", "100.0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert axis.get_ylim() == (1.5, -0.5)  # the first layer on top


@pytest.mark.parametrize(
    "positions", [[0.5, 0.5, 0.5], [0, 0.01, 1, 0.99], [-1, 2, 0.3], [0.4], list(np.zeros(20))]
)
def test_spread_keeps_labels_apart_inside_and_in_order(positions):
    gap = 0.1
    placed = spread(np.array(positions), gap, 0.0, 1.0)
    order = np.argsort(positions, kind="stable")
    wanted = min(gap, 1 / len(positions))
    assert np.all(np.diff(placed[order]) >= wanted - 1e-9)
    assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9


def test_labels_at_line_ends_do_not_overlap():
    figure, (axis,) = new_axes("title")
    axis.set_ylim(0, 1)
    end_labels(
        axis,
        [(0.5, "one", "#000001"), (0.51, "two", "#000001"), (0.52, "three", "#000001"), (np.nan, "x", "k")],
    )
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in axis.texts), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))


def test_svg_uses_the_theme_and_no_other_colour():
    figure = plots.accuracy_by_timestep([0.5, 0.7], [0.5, 0.6], n_test=10, teacher_accuracy=0.9)
    svg = to_svg(figure, "f", "words")
    assert set(re.findall(r"var\(--(\w+)\)", svg)) <= set(COLOURS)
    assert re.findall(r"(?<=: )#[0-9a-f]{6}", svg) == []
