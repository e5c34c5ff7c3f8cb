"""Weights as a file, and the digest of parameters and statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from sealkd_jax.errors import InputError
from sealkd_jax.models import PLIF, Network, SpikingNet
from sealkd_jax.training import params_digest
from sealkd_jax.weights.own import flatten, load_weights, save_weights

CLASSES = 3


def make_network(**kwargs) -> Network:
    return Network(SpikingNet(CLASSES, features=(4,), pool=(True,), **kwargs))


def test_digest_follows_every_number_and_name():
    variables = make_network().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    bumped = jax.tree.map(lambda x: x, variables)
    bumped.params["readout"]["bias"] = bumped.params["readout"]["bias"].at[0].add(1e-7)
    renamed = variables._replace(params={**variables.params, "other": variables.params["readout"]})
    del renamed.params["readout"]
    assert len({params_digest(v) for v in (variables, bumped, renamed)}) == 3
    assert params_digest(variables) == params_digest(jax.tree.map(np.asarray, variables))


def test_weights_are_read_back_bit_for_bit_and_those_of_another_network_are_refused(tmp_path):
    network, image = make_network(), jnp.zeros((1, 6, 6, 1))
    variables = network.init(jax.random.key(0), image)
    path = tmp_path / "weights.safetensors"
    save_weights(path, variables, {"note": "x"})
    assert params_digest(load_weights(path, variables)) == params_digest(variables)
    plif = make_network(neuron=PLIF).init(jax.random.key(0), image)
    with pytest.raises(InputError, match="decay_logit is missing; the file belongs to another network"):
        load_weights(path, plif)
    wider = Network(SpikingNet(CLASSES, features=(5,), pool=(True,))).init(jax.random.key(0), image)
    with pytest.raises(InputError, match=r"expected float32 \[5\], got float32 \[4\]"):
        load_weights(path, wider)
    path.write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_weights(path, variables)


def test_damaged_weights_are_named(tmp_path):
    variables = make_network().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    path = tmp_path / "weights.safetensors"
    save_weights(path, variables, {"note": "x"})
    good = path.read_bytes()
    for at in range(8 + int.from_bytes(good[:8], "little"), len(good), 5):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
        with pytest.raises(InputError, match=r"weights.safetensors: damaged: its arrays are not those"):
            load_weights(path, variables)
    for length in range(0, len(good), 50):
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match="cannot be read as safetensors"):
            load_weights(path, variables)


def test_values_that_no_weight_can_have_are_named(tmp_path):
    """A file of ours has a digest, but one that the user wrote has none, and neurons hide what is wrong with it."""
    variables = make_network().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
    path = tmp_path / "weights.safetensors"
    for name, value, said in (
        ("params/block_0/Conv_0/kernel", np.nan, "finite numbers, got nan"),
        ("params/readout/bias", -np.inf, "finite numbers, got -inf"),
        ("stats/block_0/BatchNorm_0/var", -2, "variances of at least 0, got -2.0"),
    ):
        arrays = {key: np.array(leaf) for key, leaf in flatten(variables).items()}
        arrays[name].flat[0] = value
        save_file(arrays, path)
        with pytest.raises(InputError, match=f"{name}: expected {said}"):
            load_weights(path, variables)
