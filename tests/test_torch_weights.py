"""Weights from and to PyTorch: four formats, names, and damaged or malicious files.

`parity/resnet20.pth`, `.th` (as before PyTorch 1.6) and `.safetensors` hold the same weights: see
`helpers/torch_reference.py`.
"""

import re
import shutil
import zipfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from sealkd_jax.errors import InputError
from sealkd_jax.models import STUDENTS, TEACHERS, create_student, create_teacher
from sealkd_jax.training import params_digest
from sealkd_jax.weights.torch_names import export_torch, import_torch, torch_names

STORED = Path(__file__).parent / "parity"
NETWORK = create_teacher("resnet20", 10, width=1 / 8)
STATE = {
    key.removeprefix("state/"): array
    for key, array in load_file(STORED / "resnet20.safetensors").items()
    if key.startswith("state/")
}


def like(network, size=32):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


LIKE = like(NETWORK)


def write_pth(path, replaced, compression=zipfile.ZIP_STORED):
    """The checkpoint with the contents of some of its members replaced."""
    with zipfile.ZipFile(STORED / "resnet20.pth") as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name.removeprefix("resnet20/"), old.read(name)))
    return path


def test_every_format_gives_the_same_weights(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    np.savez_compressed(tmp_path / "b.npz", **STATE)
    variables = import_torch(tmp_path / "a.safetensors", NETWORK, LIKE)
    np.testing.assert_array_equal(
        variables.params["layer2_1"]["conv2"]["kernel"][2, 1, 3, 0], STATE["layer2.1.conv2.weight"][0, 3, 2, 1]
    )
    np.testing.assert_array_equal(variables.params["readout"]["kernel"], STATE["linear.weight"].T)
    np.testing.assert_array_equal(variables.stats["stem_bn"]["var"], STATE["bn1.running_var"])
    shutil.copy(STORED / "resnet20.pth", tmp_path / "c.ckpt")  # the content decides, not the name
    for path in (tmp_path / "b.npz", tmp_path / "c.ckpt", STORED / "resnet20.pth", STORED / "resnet20.th"):
        assert params_digest(import_torch(path, NETWORK, LIKE)) == params_digest(variables)


STUDENTS_AND_TEACHERS = [
    *(partial(create_student, name, neuron="plif") for name in STUDENTS),
    *(partial(create_teacher, name) for name in TEACHERS if name not in ("resnet32", "resnet44", "resnet56")),
]


@pytest.mark.parametrize("create", STUDENTS_AND_TEACHERS, ids=lambda create: create.args[0])
def test_what_is_exported_is_imported_bit_for_bit(create, tmp_path):
    network = create(classes=10, width=1 / 16)
    wanted, rng = like(network), np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(leaf.dtype), wanted)
    path = tmp_path / "weights.safetensors"
    export_torch(path, network, variables)
    assert params_digest(import_torch(path, network, wanted)) == params_digest(variables)


@pytest.mark.parametrize(
    ("name", "examples"),
    [
        ("spiking-resnet18", ["conv0.0.weight", "conv0.1.running_mean", "layer2.0.shortcut.1.bias", "conv0.2.w"]),
        ("spiking-resnet19", ["classifier.0.weight", "classifier.1.w", "classifier.2.bias", "layer3.1.spike2.w"]),
        ("sew-resnet34", ["conv1.weight", "sn1.w", "layer4.0.downsample.0.weight", "layer4.0.downsample.2.w"]),
        ("spiking-resnet34", ["conv1.bias", "layer3.5.bn2.weight", "layer3.5.sn1.w", "fc.weight"]),
    ],
)
def test_names_are_those_of_the_published_networks(name, examples):
    network = create_student(name, 10, width=1 / 16, neuron="plif")
    variables = like(network)
    names = torch_names(network, variables)
    assert set(examples) <= names.keys() and len(names) == len(jax.tree.leaves(variables))


def test_a_learned_decay_is_one_minus_the_sigmoid_of_spikingjellys_parameter(tmp_path):
    network = create_student("spiking-resnet18", 10, width=1 / 64, neuron="plif", decay=0.3)
    path = tmp_path / "weights.safetensors"
    export_torch(path, network, network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    learned = [array for name, array in load_file(path).items() if name.endswith(".w")]
    np.testing.assert_allclose(1 - 1 / (1 + np.exp(-np.array(learned))), np.full(17, 0.3), rtol=1e-6)


def test_all_differences_are_named_in_one_line(tmp_path):
    state = dict(STATE)
    del state["bn1.bias"], state["linear.bias"]
    state |= {f"fc.{letter}": np.zeros(10, np.float32) for letter in "abcdef"}
    state["conv1.weight"] = np.zeros((2, 1, 3, 3), np.float32)
    np.savez(tmp_path / "weights.npz", **state)
    with pytest.raises(InputError) as caught:
        import_torch(tmp_path / "weights.npz", NETWORK, LIKE)
    assert str(caught.value) == (
        f"{tmp_path}/weights.npz: the file belongs to another network. missing: bn1.bias, linear.bias; not expected: "
        "fc.a, fc.b, fc.c, fc.d, 2 more; another shape: conv1.weight (expected [2, 3, 3, 3], got [2, 1, 3, 3])"
    )


NOT_ONE = "expected one state dict, alone or as an entry of a dict, found 0"
PICKLES = {
    b"\x80\x02cos\nsystem\nX%s\x85R.": NOT_ONE,
    b"\x80\x02cbuiltins\neval\nX%s\x85R.": NOT_ONE,
    b"\x80\x04\x8c\x02os\x8c\x06system\x93X%s\x85R.": NOT_ONE,
    b"\x80\x02}.": NOT_ONE,
    b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.": "in a bytearray8, but only 1 remain",  # 2^40 bytes
    b"\x80\x02(cos\nsystem\nX%so.": "opcode OBJ",
    b"\x80\x02}r\xff\xff\xff\x7f.": "damaged at",  # 2^31 memos
    # Sets an attribute of what was found.
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x01\x00\x00\x00aNs\x86b.": "cannot be read as weights",
    b"\x80\x02cos\nsystem\nN}X\x01\x00\x00\x00aNs\x86b.": "cannot be read as weights",
}


@pytest.mark.parametrize("program", PICKLES)
def test_a_pickle_that_is_not_a_state_dict_does_nothing(program, tmp_path):
    command = f"touch {tmp_path}/done".encode()
    whole = program.replace(b"%s", len(command).to_bytes(4, "little") + command)
    path = write_pth(tmp_path / "weights.pth", {"data.pkl": whole})
    with pytest.raises(InputError, match=re.escape(PICKLES[program])) as caught:
        import_torch(path, NETWORK, LIKE)
    assert str(path) in str(caught.value) and not (tmp_path / "done").exists()


def test_sizes_in_a_file_are_checked_before_it_is_read(tmp_path):
    for replaced, compression, words in (
        ({"data/0": b"1234"}, zipfile.ZIP_STORED, "data/0: expected 216 bytes, got 4"),
        ({}, zipfile.ZIP_DEFLATED, "compressed"),
        ({"byteorder": b"big"}, zipfile.ZIP_STORED, "big-endian"),
    ):
        path = write_pth(tmp_path / "weights.pth", replaced, compression)
        with pytest.raises(InputError, match=words):
            import_torch(path, NETWORK, LIKE)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([None] * 10), "linear.bias.npy: expected numbers, got object"),
        (np.zeros(10, np.int32), "linear.bias: expected floating point numbers, got int32"),
    ],
)
def test_arrays_that_are_not_weights_are_refused(array, words, tmp_path):
    np.savez(tmp_path / "weights.npz", **STATE | {"linear.bias": array})
    with pytest.raises(InputError, match=words):
        import_torch(tmp_path / "weights.npz", NETWORK, LIKE)


@pytest.mark.parametrize("content", [None, b"", b"\x80\x02}q\x00.", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"])
def test_files_that_are_something_else_are_refused(content, tmp_path):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no such file" if content is None else "expected a file of torch.save"):
        import_torch(path, NETWORK, LIKE)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_as_these_shapes(tmp_path_factory, data):
    good = (STORED / data.draw(st.sampled_from(["resnet20.pth", "resnet20.th"]))).read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position : position + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(bad)
    try:
        variables = import_torch(path, NETWORK, LIKE)
    except InputError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(lambda x: (x.shape, x.dtype), LIKE)


def test_the_weights_of_a_published_resnet20_fit(real_data):
    network = create_teacher("resnet20", 10)
    path = real_data / "cifar10_resnet20_akamaster.npz"
    variables = import_torch(path, network, like(network))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    assert all((layer["var"] > 0).all() for layer in jax.tree.leaves(variables.stats, is_leaf=lambda x: "var" in x))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bn1.running_var", np.nan, "expected finite numbers, got nan"),
        ("layer1.1.bn1.running_var", -1e-3, "expected variances of at least 0, got -0.001"),
        ("layer2.0.conv1.weight", np.inf, "expected finite numbers, got inf"),
        ("linear.bias", -np.inf, "expected finite numbers, got -inf"),
        ("bn1.running_mean", 1e300, "expected finite numbers, got inf"),  # more than float32 can hold
    ],
)
def test_values_that_no_weight_can_have_are_named(tmp_path, name, value, said):
    damaged = STATE | {name: STATE[name].astype("float64")}
    damaged[name].flat[-1] = value
    save_file(damaged, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **damaged)
    for path in (tmp_path / "a.safetensors", tmp_path / "a.npz"):
        with pytest.raises(InputError, match=re.escape(f"{path}: {name}: {said}")):
            import_torch(path, NETWORK, LIKE)
