"""Mutates the files that programs read, and calls the programs: python -m tests.fuzz --seconds 60 --seed 0

Each case copies a small directory, changes one file in one way, and calls one function on it. Either the function
raises an `InputError` of one line, or its result is right: the same as of the unchanged files, as far as they determine
it.
Prints a line for each failure, with the command that repeats it, and at the end the cases by kind.
"""

import argparse
import faulthandler
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
import h5py
import jax
import numpy as np
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from sealkd_jax.data import Framing, load
from sealkd_jax.data.archives import convert_archive
from sealkd_jax.errors import InputError
from sealkd_jax.files import write_json
from sealkd_jax.models import create_teacher
from sealkd_jax.programs import compare, distill, evaluate, export, precompute, teacher
from sealkd_jax.programs.plans import abstract_variables
from sealkd_jax.report import write_comparison_report, write_report
from sealkd_jax.training.checkpoints import _digests
from sealkd_jax.training.teacher_logits import TeacherLogits
from sealkd_jax.weights.own import load_weights
from sealkd_jax.weights.torch_names import export_torch
from tests.helpers.archives import archive_members
from tests.helpers.event_files import some_events
from tests.helpers.mutations import mutate

LIMIT = 90  # seconds for a case
MEMORY = 2**34  # bytes of address space for all
SMALL: dict[str, Any] = {
    **{"dataset": "npz:data.npz", "student": "spiking-mlp", "width": 0.02, "timesteps": 2, "views": 1, "batch_size": 8},
    **{"epochs": 2, "augment": "none", "devices": 1, "log": "quiet", "teacher": "convnet", "teacher_width": 0.02},
}
TAUGHT = SMALL | {"teacher": "teacher"}
OF_TEACHER = ("dataset", "batch_size", "epochs", "augment", "devices", "log", "teacher", "teacher_width")


class Slow(BaseException):
    """A case that takes too long."""


# ---- the unchanged files


def make_base() -> None:
    """Write data, a taught run, its teacher, its logits, a comparison and weights into the current directory."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, examples in {"train": 24, "val": 9, "test": 12}.items():
        labels = np.arange(examples) % 3
        images = rng.integers(0, 99, (examples, 4, 4, 1))
        images[np.arange(examples), labels] += 120
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
        for number, image in enumerate(arrays[f"x_{part}"][:6]):
            path = Path("pictures", part, "abc"[labels[number]], f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    np.savez("data.npz", **arrays, classes=np.array(["a", "b", "c"]))
    make_recordings(Path("recordings"))
    Path("cifar").mkdir()
    for name, content in archive_members("cifar10", "python")[0].items():
        Path("cifar", name).write_bytes(content)
    made = teacher(**{name: value for name, value in SMALL.items() if name in OF_TEACHER}, learning_rate=0.05)
    shutil.copytree(made.directory, "teacher")
    shutil.copy(precompute(**SMALL | {"teacher": "teacher"}).path, "logits.safetensors")
    logits = load_file("logits.safetensors")["logits"]
    np.savez("logits.npz", logits=logits)
    np.savez_compressed("small.npz", logits=logits[0])
    network = create_teacher("convnet", 3, width=SMALL["teacher_width"])
    variables = load_weights(Path("teacher/weights.safetensors"), abstract_variables(network, load("npz:data.npz")))
    export_torch(Path("import.safetensors"), network, variables)
    distill(**TAUGHT, method="seal", out="run")
    compare(**TAUGHT, methods="none,uniform_kd", seeds=2, out="compared")


def make_recordings(root: Path) -> None:
    """Write recordings of events in several formats, a folder a split and a class."""
    for number in range(18):
        path = root / ("train", "val", "test")[number % 3] / "ab"[number % 2] / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        events = some_events(20, 8, number)
        if number % 9 < 3:
            np.savez(path.with_suffix(".npz"), **events._asdict())
        elif number % 9 < 6:
            np.save(path.with_suffix(".npy"), np.stack([events.t, events.x, events.y, events.p], 1))
        else:
            with h5py.File(path.with_suffix(".h5"), "w") as file:
                file["events"] = np.stack([events.t, events.x, events.y, events.p], 1)


# ---- what is called, and what is right


def call_evaluate(case: Path) -> Any:
    with redirect_stdout(io.StringIO()) as out:
        found = evaluate(case)
        found.print_tables()
    assert "\x1b" not in out.getvalue(), "an escape of the terminal is printed"
    names = ("accuracy_by_timestep", "accuracy_of_timestep", "confidence_by_timestep", "verdict")
    return {name: found.diagnostics[name] for name in names}


def call_export(case: Path) -> Any:
    return {name: array.tolist() for name, array in load_file(export(case, to="safetensors").path).items()}


def call_report(case: Path) -> Any:
    page = write_report(case).read_text()
    assert "\x1b" not in page and page.endswith("</html>\n"), "the page is not whole"


def call_comparison_report(case: Path) -> Any:
    page = write_comparison_report(case).read_text()
    assert "\x1b" not in page and page.endswith("</html>\n"), "the page is not whole"


def call_teach(case: Path) -> Any:
    return load_file(precompute(**SMALL | {"teacher": str(case)}).path)["logits"].tolist()


def call_resume(case: Path) -> Any:
    summary = distill(**TAUGHT, method="seal", out=case, resume=True).summary
    return {name: summary[name] for name in ("params_digest", "test_accuracy", "val_accuracy", "best_epoch")}


def call_resume_forged(case: Path) -> Any:
    """With manifests that agree with the changed files."""
    for checkpoint in (case / "checkpoints").iterdir():
        with suppress(OSError):
            write_json(checkpoint / "manifest.json", _digests(checkpoint))
    return call_resume(case)


def call_compare(case: Path) -> Any:
    rows = compare(**TAUGHT, methods="none,uniform_kd", seeds=2, out=case, resume=True).comparison["rows"]
    return [{name: row[name] for name in ("test_accuracy", "validation", "accuracy_by_timestep_mean")} for row in rows]


def call_logits(case: Path) -> Any:
    made = {} if case.suffix == ".npz" else json.loads(Path("fingerprints.json").read_text())
    found = TeacherLogits(case, examples=24, classes=3, timesteps=2, views=1, fingerprints=made)
    array = np.array(found.view(0), np.float32)
    assert np.isfinite(array).all(), "not finite"
    return array.tolist() if not found.own or case.suffix == ".npz" else None


def call_data(case: Path) -> Any:
    data = load(f"npz:{case}")
    for split in (data.train, data.validation, data.test):
        assert split.labels.max() < len(data.classes) and len(split.images) == len(split.labels), "labels"
    return data.fingerprint, data.splits_fingerprint


def call_pictures(case: Path) -> Any:
    data = load(f"folder:{case}", image_size=4)
    return [split.images.tolist() for split in (data.train, data.validation, data.test)], data.classes


def call_recordings(case: Path) -> Any:
    framing = Framing(2, size=4, sensor_size=(8, 8))
    data = load(f"events:{case}", framing=framing, cache_dir=tempfile.mkdtemp(dir=case.parent))
    return [split.images.tolist() for split in (data.train, data.validation, data.test)], data.classes


def call_archive(case: Path) -> Any:
    with np.load(convert_archive("cifar10", case, case.parent)) as arrays:
        for part in ("train", "test"):
            assert arrays[f"x_{part}"].shape == (len(arrays[f"y_{part}"]), 32, 32, 3), "images"
            assert arrays[f"y_{part}"].max() < len(arrays["classes"]), "labels"


def call_import(case: Path) -> Any:
    options = {name: value for name, value in SMALL.items() if name in OF_TEACHER}
    assert np.isfinite(teacher(**options, weights=case, evaluate=True, scale="dataset").test_logits).all(), "not finite"


def anything(case: Path, before: Any, found: Any, path: Path, how: str) -> bool:
    """Whether a result is right that the changed file does not determine."""
    return True


def same(case: Path, before: Any, found: Any, path: Path, how: str) -> bool:
    return found == before


def same_or_other_options(case: Path, before: Any, found: Any, path: Path, how: str) -> bool:
    """The options of a network may be edited: its logits then follow from them."""
    return found == before or path.name in ("config.json", "teacher.json")


def same_or_rewritten(case: Path, before: Any, found: Any, path: Path, how: str) -> bool:
    """An archive that was written whole, with other numbers, is other data; bytes that changed are damage."""
    return found == before or found is None or how.startswith(("npz", "safetensors"))


def same_but_one_picture(case: Path, before: Any, found: Any, path: Path, how: str) -> bool:
    """Pictures have no checksum that all decoders compare: one may be another, or be left out, with a warning."""
    images, classes = found
    counts = [Counter(map(str, split)) for split in images]
    changed = [
        (old - new).total() for old, new in zip((Counter(map(str, split)) for split in before[0]), counts, strict=True)
    ]
    return classes == before[1] and sum(changed) <= 1


class Kind(NamedTuple):
    """What is changed, above all those files; what is called on it; what is right; and how often, relatively."""

    source: str
    files: str
    call: Callable[[Path], Any]
    is_right: Callable[..., bool]
    weight: int


RUN = r"(summary|config)\.json|predictions\.npz|metrics\.jsonl|hardest\.npz"
KINDS = {
    "run: evaluate": Kind("run", r"summary\.json|predictions\.npz", call_evaluate, same, 6),
    "run: export": Kind("run", r"(summary|config)\.json|weights", call_export, same, 4),
    "run: report": Kind("run", RUN, call_report, anything, 2),
    "run: as a teacher": Kind("run", r"(summary|config)\.json|weights|logits", call_teach, same_or_other_options, 2),
    "run: resume": Kind("run", r"config\.json|checkpoints/", call_resume, same, 3),
    "run: resume, forged": Kind("run", r"checkpoints/", call_resume_forged, anything, 1),
    "teacher: logits": Kind("teacher", r"teacher\.json|weights|logits", call_teach, same_or_other_options, 3),
    "logits: own file": Kind("logits.npz", "", call_logits, same_or_rewritten, 4),
    "logits: compressed": Kind("small.npz", "", call_logits, same_or_rewritten, 4),
    "logits: precomputed": Kind("logits.safetensors", "", call_logits, same_or_rewritten, 4),
    "data: arrays": Kind("data.npz", "", call_data, same_or_rewritten, 4),
    "data: pictures": Kind("pictures", "", call_pictures, same_but_one_picture, 4),
    "data: recordings": Kind("recordings", "", call_recordings, same_but_one_picture, 6),
    "data: archive": Kind("cifar", "", call_archive, anything, 3),
    "weights: import": Kind("import.safetensors", "", call_import, anything, 2),
    "comparison: report": Kind("compared", r"comparison\.json", call_comparison_report, anything, 2),
    "comparison: resume": Kind("compared", r"config\.json|cells/", call_compare, same, 2),
}


@contextmanager
def at_most(seconds: int):
    """Raise `Slow` in the block after that time. If Python does not get to it, end the process with a traceback."""

    def stop(*_: object) -> None:
        raise Slow

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 30, exit=True)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()


def try_case(seed: int, number: int, right: dict[str, Any]) -> tuple[str, str, str | None]:
    """One case: its kind, what came of it, and what is wrong with that."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(KINDS), [each.weight for each in KINDS.values()])[0]
    source, files, call, is_right, _ = KINDS[kind]
    case = Path("case") / source
    shutil.rmtree("case", ignore_errors=True)
    case.parent.mkdir()
    Path("precious").write_text("precious")
    (shutil.copytree if Path(source).is_dir() else shutil.copy)(source, case)
    path, how = mutate(rng, case, files)
    tried = f"{path} {how}"
    try:
        with at_most(LIMIT), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call(case)
    except InputError as error:
        wrong = None if "\n" not in str(error) and str(error) else f"a message of several lines: {error!r}"
        outcome = "refused"
    except Slow:
        outcome, wrong = "hung", f"took more than {LIMIT} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome, wrong = "raised", f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    else:
        outcome, wrong = "accepted", None if is_right(case, right[kind], found, path, how) else "another result"
    if Path("precious").read_text() != "precious":
        wrong = "a file elsewhere was written to"
    return kind, outcome, wrong and f"{tried}: {wrong}"


def main() -> int:
    """Try cases for a time, or one of them; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this one")
    options = parser.parse_args()
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        os.chdir(place)
        try:
            return _run(options)
        finally:
            os.chdir(before)


def _run(options: argparse.Namespace) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it then raises
    jax.config.update("jax_compilation_cache_dir", os.path.abspath("compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    sys.modules["sealkd_jax.report.page"].to_png = lambda figure: b""
    sys.modules["sealkd_jax.report.page"].to_svg = lambda figure, name, description: ""
    make_base()
    with safe_open("logits.safetensors", framework="numpy") as file:
        made = {name: value for name, value in file.metadata().items() if name != "sha256"}
    Path("fingerprints.json").write_text(json.dumps(made))
    right = {}
    for kind, (source, _, call, _, _) in KINDS.items():
        shutil.rmtree("case", ignore_errors=True)
        Path("case").mkdir()
        (shutil.copytree if Path(source).is_dir() else shutil.copy)(source, Path("case") / source)
        right[kind] = call(Path("case") / source)
    outcomes, failed, start = Counter(), Counter(), time.monotonic()
    number = options.case or 0
    while True:
        try:
            kind, outcome, wrong = try_case(options.seed, number, right)
        except KeyboardInterrupt:
            break
        outcomes[kind, outcome] += 1
        if wrong:
            failed[kind] += 1
            print(f"{kind}: {wrong}; python -m tests.fuzz --seed {options.seed} --case {number}", flush=True)
        number += 1
        if number % 200 == 0:
            jax.clear_caches()
            print(f"{number} cases, {sum(failed.values())} failed", file=sys.stderr, flush=True)
        if options.case is not None or time.monotonic() - start > options.seconds:
            break
    for kind in KINDS:
        parts = {outcome: count for (of, outcome), count in outcomes.items() if of == kind}
        counts = ", ".join(f"{outcome} {count}" for outcome, count in sorted(parts.items()))
        print(f"{kind}: {sum(parts.values())} cases, {failed[kind]} failed ({counts})")
    print(f"{sum(outcomes.values())} cases, {sum(failed.values())} failed, seed {options.seed}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
