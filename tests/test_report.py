"""Reports load nothing from outside, say what the files say, and work for runs of every shape."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.image import imread

from sealkd_jax.plots.panels import PANELS, panel
from sealkd_jax.plots.style import new_axes
from sealkd_jax.plots.words import percent
from sealkd_jax.report import write_comparison_report, write_report
from sealkd_jax.report.hardest import hardest_examples
from tests.helpers.finished_run import write_run

pytestmark = pytest.mark.figures
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
    folder.mkdir(parents=True, exist_ok=True)
    summary = {
        **{"preset": "digits", "dataset": "digits", "method": "seal", "seed": 7, "params_digest": "c0ffee"},
        **{"epochs_done": epochs, "best_epoch": epochs, "val_accuracy": 0.8765, "train_seconds": 200.0},
        **{"teacher": None, "teacher_accuracy": 0.9432 if teacher else None, "examples_per_second": 12345.6},
        "firing_rate": 0.1234,
        "firing_rates": {"stem": [0.1] * timesteps, "block1": [0.2] * timesteps},
        "dead_share": {"stem": 0.25, "block1": 0.0},
        "saturated_share": {"stem": 0.0, "block1": 0.0},
    }
    of_teacher = None if not teacher else logits if teacher == "snn" else logits.mean(0)
    write_run(folder, logits, labels, of_teacher, **summary | changes.get("summary", {}))
    config = {
        "options": {"preset": "digits", "epochs": epochs, "data_dir": None},
        **{"source": None, "data": "", "splits": "", "resumed": []},
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
            "firing_rates": {"stem": 0.1},
            "learning_rate": 1e-3,
            "grad_norm": 1.0,
            "seconds": 1.0,
            "examples_per_second": 12345.6,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "config.json").write_text(json.dumps(config | changes.get("config", {})))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(path):
    html = path.read_text()
    return html, Page(html)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with all there can be, with its report."""
    folder = tmp_path_factory.mktemp("run")
    make_run(folder, teacher="snn", examples=360)
    np.savez(folder / "hardest.npz", images=np.zeros((14, 6, 5, 3), np.uint8), index=np.arange(14))
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
        "early_exit",
        "firing_rates",
        "energy",
        "accuracy",
        "loss",
        "wrong_timesteps",
        "optimisation",
    }
    pngs = {png.stem: png.read_bytes() for png in (run / "plots").iterdir()}
    assert set(pngs) == figures
    assert all(png.startswith(b"\x89PNG") for png in pngs.values())
    assert [tag for tag, name, value in page.attributes if tag == "svg" and name == "role"] == ["svg"] * len(figures)


@pytest.mark.slow
def test_a_figure_is_added_in_one_place(tmp_path):
    with patch.dict(PANELS):

        @panel("Training", "Read <this>.", lambda run: {"title": run.summary["method"]})
        def added(title):
            return new_axes(title)[0]

        html, page = read(write_report(make_run(tmp_path)))
    assert ("figure", "id", "added") in page.attributes and "Read <this>." in page.text
    assert html.index("<h2>Training") < html.index('id="added"') < html.index("<h2>Configuration")
    assert (tmp_path / "plots/added.png").exists()


def test_ids_are_unique_and_references_resolve(run):
    html, page = read(run / "report.html")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = [value for _, name, value in page.attributes if name == "xlink:href"]
    targets = {link[1:] for link in links if link.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert targets and targets <= set(ids)


def test_report_says_what_the_summary_says(run):
    _, page = read(run / "report.html")
    accuracy = json.loads((run / "summary.json").read_text())["test_accuracy"]
    assert f"classifies {percent(accuracy)} of 360 test examples correctly after 4 timesteps" in page.text
    assert f"{100 * (accuracy - 0.9432):.2f} percentage points above its teacher’s 94.32 %" in page.text
    for said in (
        f"± {100 * (accuracy * (1 - accuracy) / 360) ** 0.5:.2f}",
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
    summary = {
        "dataset": hostile,
        "preset": hostile,
        "firing_rates": {hostile: [0.5]},
        "dead_share": {hostile: 0.5},
        "saturated_share": {hostile: 0},
    }
    html, page = read(write_report(make_run(tmp_path, timesteps=1, config=config, summary=summary)))
    assert "<script" not in html
    assert page.text.count(hostile) >= 5


@pytest.mark.parametrize(
    "size",
    [
        {"timesteps": 1, "epochs": 1, "teacher": None},
        pytest.param({"timesteps": 16, "classes": 1000, "epochs": 1}, marks=pytest.mark.slow),
        pytest.param({"timesteps": 2, "teacher": None, "summary": {"teacher": "mine.npz"}}, marks=pytest.mark.slow),
        pytest.param({"timesteps": 2, "classes": 2, "examples": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_report_of_unusual_sizes_replaces_the_one_before(tmp_path, size):
    make_run(tmp_path, **size)
    (tmp_path / "report.html").write_text("before")
    before = {path.name for path in tmp_path.iterdir()}
    _, page = read(write_report(tmp_path))
    assert ("It had no teacher." in page.text) == ("teacher" in size and "summary" not in size)
    assert ("It learned from the logits of mine.npz." in page.text) == ("summary" in size)
    assert f"after {size['timesteps']} timestep" in page.text
    assert "before" not in page.words
    assert {path.name for path in tmp_path.iterdir()} == before | {"plots"}  # nothing half-written stays
    assert (("figure", "id", "confusion") in page.attributes) == (size.get("classes", 10) <= 100)
    assert (("figure", "id", "sta_weights") in page.attributes) == (size["timesteps"] > 1)


@pytest.mark.slow
def test_a_network_that_has_learned_nothing_says_so(tmp_path):
    make_run(tmp_path)
    labels = np.arange(60) % 10
    logits = np.eye(10, dtype=np.float32)[np.full((4, 60), 3)]
    write_run(tmp_path, logits, labels)
    _, page = read(write_report(tmp_path))
    assert page.text.count("It predicts one class, 3, for 100.00 % of the examples: not trained.") == 2  # and why
    assert "No verdict on its timesteps." in page.text and "10.00 % by guessing, 10.00 % by always" in page.text


def test_at_most_twelve_pictures(run):
    _, page = read(run / "report.html")
    assert sum(tag == "img" and name == "src" for tag, name, _ in page.attributes) == 12


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_hardest_examples_say_who_said_what(channels):
    html = hardest_examples(
        np.full((1, 4, 4, channels), 255, np.uint8),
        predicted=np.array([[2], [2], [0], [1]]),
        labels=np.array([1]),
        teacher=np.array([1]),
        classes=["<cat>", "dog", "emu"],
    )
    page = Page(html)
    assert page.text.startswith("Bold: the label.") and "(✗), and the teacher’s." in page.text
    assert page.text.endswith("teacher’s.dog1–2 ✗ emu3 ✗ <cat>4 ✓ dogteacher ✓ dog")
    (image,) = [value for _, name, value in page.attributes if name == "src"]
    pixels = imread(io.BytesIO(base64.b64decode(image.removeprefix("data:image/png;base64,"))))
    assert pixels.shape[:2] == (4, 4)
    np.testing.assert_allclose(pixels[..., :3], 1, atol=0.5)  # bright, in whatever colour


def make_comparison(folder, rows, **changes):
    """A `comparison.json` of rows (name, accuracies, difference, interval), the reference first."""
    comparison = {
        "preset": "digits",
        "command": "python -m train.compare digits",
        "n_seeds": len(rows[0][1]),
        "reference": rows[0][0],
        "rows": [
            {
                "name": name,
                "method": name,
                "options": {},
                "chosen": True,
                "bootstrap": None,
                "against": None,
                "test_accuracy": accuracies,
                "validation": 0.875,
                "mean": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
                "difference": difference,
                "interval": interval,
                "seconds": 61.0,
                "accuracy_by_timestep_mean": [0.5, 0.9],
                "unconfirmed": name == "tser",
            }
            for name, accuracies, difference, interval in rows
        ],
        "teacher": "convnet",
        "teacher_accuracy": 0.98,
        "n_test": 360,
        "versions": {"jax": "0.10.2"},
        "device": "cpu x1",
        "commit": None,
    }
    (folder / "comparison.json").write_text(json.dumps(comparison | changes))
    return folder


def test_comparison_says_plainly_what_differs(tmp_path):
    rows = [
        ("uniform_kd", [0.90, 0.92], None, None),
        ("seal", [0.93, 0.95], 0.03, [0.01, 0.05]),
        ("tser", [0.90, 0.93], 0.005, [-0.02, 0.03]),
        ("none", [0.80, 0.82], -0.10, [-0.12, -0.08]),
    ]
    html, page = read(write_comparison_report(make_comparison(tmp_path, rows)))
    assert "Better than uniform_kd: seal (+3.00 points). Worse than uniform_kd: none (−10.00 points)." in page.text
    assert "Not shown to differ: tser (+0.50 points). The teacher has 98.00 %." in page.text
    assert "tser †87.50 %91.50 %2.12+0.50−2.00 to +3.001 min 1 s" in page.text
    assert "not checked against its authors’ code" in page.text
    figures = {value for tag, name, value in page.attributes if tag == "figure" and name == "id"}
    assert figures == {"accuracies", "differences", "ladder", "ladder_by_timestep"}
    assert {png.stem for png in (tmp_path / "plots").iterdir()} == figures
    assert "http" not in re.sub("http-equiv", "", html)


def test_a_comparison_without_a_difference_has_no_headline(tmp_path):
    rows = [
        ("uniform_kd", [0.90, 0.92, 0.91], None, None),
        ("seal", [0.93, 0.95, 0.90], 0.017, [-0.03, 0.06]),
        ("none", [0.80, 0.82, 0.99], -0.04, [-0.3, 0.2]),
    ]
    _, page = read(write_comparison_report(make_comparison(tmp_path, rows)))
    assert "No method is shown to differ from uniform_kd: every interval includes zero." in page.text
    assert "Better" not in page.text and "Worse" not in page.text


def test_a_setting_is_reported_if_validation_chose_it(tmp_path):
    """However good another is on the test split; the others are in a curve and in a folded table."""
    rows = [("uniform_kd", [0.90] * 3, None, None), ("sta", [0.99] * 3, 0.09, [0.08, 0.1])]
    rows += [("seal", [0.85] * 3, -0.05, [-0.06, -0.04])]
    make_comparison(tmp_path, rows)
    found = json.loads((tmp_path / "comparison.json").read_text())
    for row, temperature in zip(found["rows"][1:], ("2", "3"), strict=True):
        row |= {"name": f"seal temperature={temperature}", "method": "seal", "options": {"temperature": temperature}}
    found["rows"][1]["chosen"] = False
    (tmp_path / "comparison.json").write_text(json.dumps(found))
    html, page = read(write_comparison_report(tmp_path))
    assert "2 methods in 3 settings" in page.text
    assert "Worse than uniform_kd: seal temperature=3 (−5.00 points)." in page.text and "Better" not in page.text
    assert page.text.count("99.00 %") == 1 and html.index("99.00 %") > html.index("<summary>All settings")
    assert ("figure", "id", "sweep") in page.attributes


def test_comparison_of_one_seed_one_method_and_no_teacher(tmp_path):
    rows = [("<b>", [0.9], None, None), ("mean_kd", [0.9], 0.0, None)]
    html, page = read(write_comparison_report(make_comparison(tmp_path, rows, teacher=None, teacher_accuracy=None)))
    assert "So few seeds give no intervals: the differences may be chance." in page.text
    assert "<b>" in page.text and "<b>" not in html
    _, page = read(write_comparison_report(make_comparison(tmp_path, rows[:1])))
    figures = {value for tag, name, value in page.attributes if tag == "figure" and name == "id"}
    assert figures == {"accuracies"}
