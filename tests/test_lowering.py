"""The programs that train and evaluate, lowered for TPUs and CUDA; neither has to be there, and nothing is run."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sealkd_jax.data import Dataset, Split
from sealkd_jax.layers import gpu_kernels
from sealkd_jax.models import REMAT, Variables, create_teacher
from sealkd_jax.parallel.sharding import Parallel
from sealkd_jax.programs.plans import make_plan
from sealkd_jax.programs.presets import PRESETS
from sealkd_jax.training import make_evaluation, on_devices, prepare
from tests.helpers.devices import first_devices

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_kernels")]
PLATFORMS = ("cuda", "tpu")
PRECISIONS = ("float32", "bfloat16")


@pytest.fixture
def without_kernels(monkeypatch):
    """`jax.export` refuses kernels; test_gpu_kernels.py lowers them."""
    monkeypatch.setattr(gpu_kernels, "MODE", "off")


def epoch_and_evaluation(mode="jit", **options) -> tuple[str, str]:
    """StableHLO of both for eight devices, as train.distill makes them of a small student."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 255, (32, 8, 8, 3)).astype(np.uint8), np.arange(32, dtype=np.int32) % 10)
    dataset = Dataset("small", split, split, split, tuple("0123456789"))
    small = {
        "batch_size": 16,
        "width": 1 / 16,
        "timesteps": 2,
        "augment": "crop(4) | flip | autoaugment(cifar10) | cutout(4)",
    }
    plan = make_plan(replace(PRESETS["cifar10"].distill, **small, **options), dataset)
    shallow = plan.network.module.clone(depths=(1, 1), features=plan.network.module.features[:2])
    plan = replace(plan, network=replace(plan.network, module=shallow))
    parallel = Parallel(mode, first_devices(8))
    program, data = prepare(plan, dataset, parallel), on_devices(split, parallel)
    state, key = jax.eval_shape(program.begin, 0)
    data = data._replace(teacher_logits=np.zeros((32, 10), np.float32))
    evaluate = make_evaluation(plan.network, plan.spec, timesteps=2, split_batch=parallel.constrain_batch)
    epoch = jax.jit(parallel.compile_epoch(program.epoch))
    return (
        lowered(epoch, state, data, key, jnp.int32(0)),
        lowered(parallel.compile(evaluate), state.variables, data),
    )


def lowered(program, *args) -> str:
    """For both platforms in one; JAX refuses what it does not promise to run in later versions."""
    exported = jax.export.export(program, platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS and exported.nr_devices == 8
    return exported.mlir_module()


def convolutions(text: str) -> set[str]:
    """The dtypes of the inputs and kernels of all convolutions."""
    operands = re.findall(r"stablehlo\.convolution.*? : \(tensor<([^>]*)>, tensor<([^>]*)>\)", text)
    return {shape.rpartition("x")[2] for pair in operands for shape in pair}


@pytest.mark.parametrize("remat", REMAT)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_epoch_and_an_evaluation_are_lowered_for_tpus_and_cuda(precision, remat):
    for text in epoch_and_evaluation(precision=precision, remat=remat):
        assert "f64" not in text and "callback" not in text
        assert convolutions(text) == {{"float32": "f32", "bfloat16": "bf16"}[precision]}


def test_an_epoch_of_a_transformer_is_lowered_for_tpus_and_cuda():
    for text in epoch_and_evaluation(student="qkformer", remat="spikes", precision="bfloat16"):
        assert "f64" not in text and "callback" not in text and convolutions(text) == {"bf16"}


def test_the_gradient_of_a_vit_is_lowered_for_tpus_and_cuda():
    network = create_teacher("vit-small-patch4", 10, width=1 / 16, precision="bfloat16")
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)

    @jax.jit
    def gradient(params, images):
        return jax.grad(lambda p: network.train(Variables(p, {}), images, timesteps=1)[0].sum().astype("float32"))(
            params
        )

    exported = jax.export.export(gradient, platforms=PLATFORMS)(variables.params, images)
    assert exported.platforms == PLATFORMS and "f64" not in exported.mlir_module()


def test_an_epoch_under_pmap_is_lowered_for_tpus_and_cuda():
    epoch, _ = epoch_and_evaluation("pmap", method="card")
    assert "all_gather" in epoch and "all_reduce" in epoch and "f64" not in epoch and "callback" not in epoch
