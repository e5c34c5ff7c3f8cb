"""The shape of the repository: who imports whom, how long files are, and that the pages name what there is."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"errors", "_checks"},
    {"_checks", "files", "surrogates"},
    {"typed"},
    {"losses", "neurons", "parallel"},
    {"diagnostics", "layers", "data"},
    {"models", "run_files"},
    {"weights"},
    {"training"},
    {"teachers"},
    {"export", "plots"},
    {"report"},
    {"programs"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for folder in ("sealkd_jax", "train") for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(path):
    """The modules that a file imports: at its top, within functions and for type checkers alike."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write the whole name"
            within = (f"{node.module}.{name.name}" for name in node.names)
            yield from (name if name in FILES else node.module for name in within)


IMPORTS = {module: set(imported(path)) for module, path in FILES.items()}


def room(module):
    """`layers` for `sealkd_jax.layers.pooling`; None for the face of the package and for what is outside it."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "sealkd_jax" else None


def test_no_import_is_part_of_a_circle():
    TopologicalSorter({module: names & FILES.keys() for module, names in IMPORTS.items()}).prepare()


def test_rooms_import_only_from_floors_below():
    assert {room(module) for module in FILES} - {None} <= FLOOR.keys()
    upwards = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if room(module) and room(name) not in (None, room(module)) and FLOOR[room(name)] >= FLOOR[room(module)]
    ]
    assert upwards == []


def test_the_face_of_the_package_is_losses_neurons_and_surrogates():
    assert {room(name) for name in IMPORTS["sealkd_jax"]} - {None} == {"losses", "neurons", "surrogates"}


def test_no_program_imports_another():
    commands = "sealkd_jax.programs.commands."
    programs = {module for module in FILES if module.startswith(commands)}
    assert {f"{commands}{name}" for name in ("distill", "teacher", "precompute", "evaluate", "compare")} <= programs
    others = {module: IMPORTS[module] & programs for module in programs}
    assert {module: found for module, found in others.items() if found} == {}


def test_nothing_imports_the_tests():
    assert [module for module, names in IMPORTS.items() if any(name.split(".")[0] == "tests" for name in names)] == []


def test_flax_is_used_in_layers_and_models_alone():
    users = {room(module) for module, names in IMPORTS.items() if any(name.split(".")[0] == "flax" for name in names)}
    assert users - {None} == {"layers", "models"}


def test_no_file_is_longer_than_400_lines():
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for folder in ("sealkd_jax", "train", "tests", "docs")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


def test_files_that_the_pages_name_exist():
    named = {
        f"{page.name}: {path}"
        for page in PAGES
        for path in re.findall(r"(?<![\w/.-])(?:sealkd_jax|train|tests|notebooks)/[\w./-]*\w", page.read_text())
        if not (ROOT / path).exists()
    }
    assert named == set()


def test_names_that_the_pages_give_in_full_exist():
    def missing(name):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            return True

    names = {name for page in PAGES for name in re.findall(r"\bsealkd_jax(?:\.[a-zA-Z]\w*)+", page.read_text())}
    assert len(names) > 20 and {name for name in names if missing(name)} == set()
