"""Networks against PyTorch and SpikingJelly in float64: stored results, and PyTorch itself where it is installed.

`helpers/torch_reference.py` and, with the QKFormer authors' own file and timm, `helpers/transformer_reference.py` say
what is compared and write the stored results.
"""

import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from sealkd_jax.models import STUDENTS, Network, Variables, create_student, create_teacher
from sealkd_jax.weights.own import flatten
from sealkd_jax.weights.torch_names import export_torch, import_torch

STORED = Path(__file__).parent / "parity"
TIMESTEPS = 4

pytestmark = pytest.mark.usefixtures("float64")


def make(name: str, width: float) -> Network:
    create = create_student if name in STUDENTS else create_teacher
    if name == "qkformer":  # the authors' neurons
        create = partial(create_student, decay_input=True, detach_reset=True)
    return create(name, 10, width=width, precision="float64")


def cut(network: Network, **sizes) -> Network:
    return replace(network, module=network.module.clone(**sizes))


def load(directory: Path, network: Network, like: Variables, found: dict[str, np.ndarray], *kinds: str) -> Variables:
    """The arrays under these kinds, `state/`, `grad/` and so on, as variables of the network."""
    arrays = {key.split("/", 1)[1]: array for key, array in found.items() if key.startswith(kinds)}
    path = directory / "arrays.npz"
    np.savez(path, **arrays)
    return import_torch(path, network, like)


def compare(
    directory: Path, network: Network, found: dict[str, np.ndarray], tolerance: float = 1e-10
) -> tuple[Variables, Variables, Variables]:
    """Logits and gradients must agree, gradients to `tolerance`.

    Returns the variables before a step, ours and PyTorch's after it.
    """
    images = jnp.asarray(found["images"].transpose(0, 2, 3, 1))
    variables = load(directory, network, jax.eval_shape(network.init, jax.random.key(0), images), found, "state/")

    @jax.jit
    def observe(variables, images):
        def loss(params):
            logits, stats = network.train(Variables(params, variables.stats), images, timesteps=len(found["train"]))
            return jnp.square(logits).mean(), (logits, stats)

        (_, (logits, stats)), grads = jax.value_and_grad(loss, has_aux=True)(variables.params)
        predicted = network.predict(variables, images, timesteps=len(found["train"]))
        return predicted, logits, Variables(grads, stats)

    predicted, logits, after = observe(variables, images)
    np.testing.assert_allclose(predicted, found["eval"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(logits, found["train"], rtol=1e-10, atol=1e-10)
    if not any(key.startswith("after/") for key in found):
        after = after._replace(stats={})
    expected = load(directory, network, after, found, "grad/", "after/")
    chex.assert_trees_all_close(after.params, expected.params, rtol=tolerance, atol=tolerance)
    assert all(np.any(grad != 0) for grad in jax.tree.leaves(expected.params))
    return variables, after, expected


SPIKING = [pytest.param(f"spiking-resnet{depth}", 1 / 32, marks=pytest.mark.slow) for depth in (18, 19)]


@pytest.mark.parametrize(("name", "width"), [*SPIKING, ("resnet20", 1 / 8)])
def test_logits_and_gradients_equal_those_stored_of_pytorch(name, width, tmp_path):
    found = load_file(STORED / f"{name}.safetensors")
    variables, after, expected = compare(tmp_path, make(name, width), found)
    timesteps, batch, height = len(found["train"]), *found["images"].shape[1:3]
    leaves = jax.tree_util.tree_leaves_with_path(expected.stats)
    for (path, theirs), ours, before in zip(
        leaves, jax.tree.leaves(after.stats), jax.tree.leaves(variables.stats), strict=True
    ):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        if path.endswith("var"):  # PyTorch records the unbiased variance of n numbers, Flax the biased one
            stage = re.match(r"layer(\d)", path)
            side = height // 2 ** (int(stage[1]) - 1 if stage else 0)
            n = timesteps * batch * side**2
            theirs = 0.9 * before + (theirs - 0.9 * before) * (n - 1) / n
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12, err_msg=path)


CUT = [
    pytest.param("qkformer", 1 / 12, {"depths": (1, 1, 1)}, marks=pytest.mark.slow),
    ("vit-small-patch4", 1 / 32, {"depth": 2}),
]


@pytest.mark.parametrize(("name", "width", "sizes"), CUT)
def test_logits_and_gradients_equal_those_stored_of_the_authors_transformers(name, width, sizes, tmp_path):
    """The stored gradients are float32."""
    found = load_file(STORED / f"{name}.safetensors")
    assert np.abs(found["train"]).std() > 0.01
    compare(tmp_path, cut(make(name, width), **sizes), found, 2e-6)


def import_reference(name: str, reason: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SpikingJelly's import
        return pytest.importorskip(f"tests.helpers.{name}", reason=reason)


@pytest.fixture(scope="module")
def reference():
    return import_reference("torch_reference", "without PyTorch and SpikingJelly: see the extra parity")


@pytest.fixture(scope="module")
def transformers():
    return import_reference("transformer_reference", "without PyTorch and SpikingJelly: see the extra parity")


@pytest.mark.slow
@pytest.mark.parametrize(("timesteps", "batch"), [(1, 1), (6, 1), (4, 3)])
def test_qkformer_equals_the_authors_unmodified_network(transformers, timesteps, batch, tmp_path):
    """In the published size. For more than one image, a module from outside keeps the images apart: see there."""
    import torch

    path = transformers.authors_file()
    if path is None:
        pytest.skip("SEALKD_QKFORMER is not set: the authors' cifar10/model.py")
    theirs = transformers.qkformer(path, 384, 4, timesteps)
    if batch > 1:
        transformers.keep_images_apart(theirs.network)
    images = torch.randn(batch, 3, 16, 16, generator=torch.manual_seed(1)).double()
    found = {key: value.detach().numpy() for key, value in transformers.observe(theirs, images).items()}
    _, after, expected = compare(tmp_path, make("qkformer", 1), found)
    means = [
        {path: leaf for path, leaf in flatten(v._replace(params={})).items() if path.endswith("mean")}
        for v in (after, expected)
    ]
    chex.assert_trees_all_close(*means, rtol=1e-10, atol=1e-12)
    transformers.functional.reset_net(theirs)
    with torch.no_grad():
        per_timestep = theirs.eval()(images)
        transformers.functional.reset_net(theirs)
        np.testing.assert_allclose(theirs.network(images), per_timestep.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_vit_equals_that_of_timm(transformers, tmp_path):
    pytest.importorskip("timm")
    import torch

    theirs = transformers.vit(32, 384, 12, 16)
    images = torch.randn(2, 3, 32, 32, generator=torch.manual_seed(1)).double()
    found = {key: value.detach().numpy() for key, value in transformers.observe(theirs, images).items()}
    compare(tmp_path, make("vit-small-patch16", 1), found)


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [
        ("spiking-resnet18", 1, 16),
        ("spiking-resnet19", 1, 16),
        ("spiking-resnet34", 1 / 16, 32),
        ("spiking-resnet34", 1 / 16, 96),
        ("sew-resnet18", 1 / 16, 32),
        ("sew-resnet18", 1 / 16, 96),
        ("resnet18", 1 / 16, 32),
        ("resnet34", 1 / 16, 96),
        ("resnet50", 1 / 16, 32),
        ("resnet19", 1 / 16, 16),
    ],
)
def test_logits_and_gradients_equal_those_of_pytorch(reference, name, width, size, tmp_path):
    import torch

    module = reference.make(name, width, TIMESTEPS if name in STUDENTS else None, large=size >= 96)
    found = reference.observe(module, torch.randn(2, 3, size, size, generator=torch.manual_seed(1)).double())
    found = {key: value.detach().numpy() for key, value in found.items()}
    compare(tmp_path, make(name, width), found)


@pytest.mark.parametrize("name", ["spiking-resnet18", "spiking-resnet19", "spiking-resnet34", "resnet50", "resnet20"])
def test_pytorch_takes_what_was_exported(reference, name, tmp_path):
    import safetensors.torch

    network = make(name, 1 / 16)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    export_torch(tmp_path / "weights.safetensors", network, variables)
    module = reference.make(name, 1 / 16, TIMESTEPS)
    state = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    module.load_state_dict(state)
    assert all((value == module.state_dict()[key]).all() for key, value in state.items())
