"""Published networks: the logits of PyTorch modules of their structure, and which network a file belongs to.

`parity/published.json` has names, shapes and logits of `helpers/torch_published.py`.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.models import PUBLISHED, TEACHERS, create_teacher
from sealkd_jax.programs.commands import teacher
from sealkd_jax.weights.architectures import find_architecture, with_stem_of
from sealkd_jax.weights.torch_names import import_torch, torch_names
from tests.helpers.compiling import jitted
from tests.helpers.programs import refusal
from tests.helpers.published_weights import CASES, CLASSES, make_images, make_weights

STORED = json.loads((Path(__file__).parent / "parity/published.json").read_text())
MORE = ("vgg13", "vgg19-512", "resnet34-7x7", "resnet56b", "vit-base-patch8", "vit-small-patch32")
QUICK = ("resnet20b", "cifar-resnet18", "vgg11-4096")


def compare(name, width, side, arrays, logits, tmp_path):
    """Imports the weights that follow from names and shapes, and compares the logits in float64."""
    network = create_teacher(name, CLASSES, width=width, precision="float64")
    images = jnp.asarray(make_images(side))
    like = jax.eval_shape(network.init, jax.random.key(0), images)
    np.savez(tmp_path / "weights.npz", **make_weights(arrays))
    variables = import_torch(tmp_path / "weights.npz", network, like)
    found = jitted(network).predict(variables, images, timesteps=1)
    np.testing.assert_allclose(found[0], logits, rtol=1e-10, atol=1e-10)
    assert np.ptp(found) > 0.01


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_logits_equal_those_stored_of_pytorch(name, tmp_path, float64):
    compare(name, *CASES[name], STORED[name]["arrays"], STORED[name]["logits"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*CASES, "vgg13", "vgg19-512", "resnet34-7x7", "resnet56b", "vit-base-patch8", "vit-small-patch32"]
)
def test_logits_equal_those_of_pytorch(name, tmp_path, float64):
    reference = pytest.importorskip("tests.helpers.torch_published", reason="without PyTorch: see the extra parity")
    width, side = CASES.get(name, (1 / 16, 32))
    width = 1 / 4 if name.startswith("vit") else width
    found = reference.observe(name, width, side)
    compare(name, width, side, found["arrays"], found["logits"], tmp_path)


def torch_shapes(name, side=32):
    """The names and shapes that the whole network has in PyTorch."""
    network = create_teacher(name, CLASSES)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    order = {4: (3, 2, 0, 1), 2: (1, 0)}
    return {
        key: tuple(leaf.shape[axis] for axis in order.get(leaf.ndim, range(leaf.ndim)))
        for key, leaf in torch_names(network, variables).items()
    }


FOUND = ["resnet20b", "vgg11", "vgg13-512", "resnet20"]


@pytest.mark.parametrize(
    "name",
    [
        *FOUND,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (*PUBLISHED, "resnet19", "resnet32", "resnet56")
            if name not in FOUND
        ),
    ],
)
def test_a_network_is_found_by_names_and_shapes(name):
    assert find_architecture(torch_shapes(name)) == name


def test_stored_networks_are_found_by_names_and_shapes():
    """Small ones, where no width decides."""
    for name, stored in STORED.items():
        if not name.startswith(("vgg16", "vgg11-")):
            assert find_architecture({key: tuple(shape) for key, shape in stored["arrays"].items()}) == name


def test_what_looks_like_no_network_is_not_named():
    assert find_architecture({}) is None
    assert find_architecture({"layer1.0.conv1.weight": (1, 1, 3, 3), "fc.weight": (1, 1)}) is None
    without_batch_norm = {f"features.{n}.weight": (8, 8, 3, 3) for n in range(8)}
    assert find_architecture(without_batch_norm | {"classifier.weight": (5, 8)}) is None
    assert {find_architecture({"patch_embed.proj.weight": (192, 3, 16, 16)})} == {None}


def test_the_stem_is_that_of_the_weights():
    large, small = {"conv1.weight": (64, 3, 7, 7)}, {"conv1.weight": (64, 3, 3, 3)}
    assert with_stem_of("resnet18", large, side=32) == "resnet18-7x7"
    assert with_stem_of("resnet50", small, side=224) == "resnet50-3x3"
    assert with_stem_of("resnet18", large, side=224) == with_stem_of("resnet18", small, side=32) == "resnet18"
    assert with_stem_of("resnet20", {"conv1.weight": (16, 3, 3, 3)}, side=224) == "resnet20"
    assert not PUBLISHED.keys() & TEACHERS.keys()


@pytest.mark.slow
def test_an_imported_file_says_which_network_it_is(tmp_path, monkeypatch, capsys):
    """Without --arch, by names and shapes; with it, by the stem of the weights. The teacher is found again."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % CLASSES
    images = rng.integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    np.savez("own.npz", x_train=images, y_train=labels, x_test=images[:20] ^ 1, y_test=labels[:20])
    weights = make_weights({f"module.{key}": tuple(shape) for key, shape in STORED["resnet20b"]["arrays"].items()})
    np.savez("weights.npz", **weights)
    arguments = ["--dataset", "npz:own.npz", "--import", "weights.npz", "--teacher-width", "0.25", "--devices", "1"]
    teacher.main(arguments)
    said = capsys.readouterr()
    assert "weights.npz: resnet20b, by its names and shapes\n" in said.err
    path = Path(said.out.partition(":")[0])
    assert path.name.startswith("own-resnet20b-") and (path / "weights.safetensors").exists()
    assert "expected --import FILE" in refusal(["--arch", "resnet20"], capsys, main=teacher.main)
    said = refusal([*arguments, "--arch", "resnet20"], capsys, chatty=True, main=teacher.main)
    assert "weights.npz: the file belongs to another network. missing: linear.bias, linear.weight" in said
    teacher.main(["--dataset", "npz:own.npz", "--teacher", str(path), "--evaluate", "--devices", "1"])
    assert f"{path}: test accuracy" in capsys.readouterr().out
