"""Eight CPU devices for the sharding tests; strict promotion everywhere; float64 where a test asks."""

import gc
import os
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

# A test runs its programs once or twice: optimising them would take more than half of the suite's time.
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):  # newer ones end the process where they do not know a flag
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _QUICK)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several test processes share one GPU

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # for the programs that tests start, of all workers
    _cache = TemporaryDirectory(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name

import jax
import pytest

gc.set_threshold(50_000, 20, 50)  # tracing makes many objects that live: looking for dead ones takes longer than tests

TORCH = ("torch_published", "torch_reference", "torch_resnet", "transformer_reference")
collect_ignore = [f"helpers/{name}.py" for name in TORCH]  # need PyTorch

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")  # no loss, neuron, network or program relies on promotion
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_compilation_cache", False)  # a test seldom compiles what another has


def pytest_xdist_auto_num_workers():
    """One more than the cores, since tests wait for processes and disks."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def real_data():
    """The directory of real recordings and arrays; CONTRIBUTING.md says what is in it."""
    if "SEALKD_TEST_DATA" not in os.environ:
        pytest.skip("SEALKD_TEST_DATA, the directory of real recordings and arrays, is not set")
    return Path(os.environ["SEALKD_TEST_DATA"]).absolute()


@pytest.fixture
def float64():
    """Runs the test with 64-bit types enabled."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def promoting():
    """Permits implicit promotion, for a test whose other side is a library that needs it: Flax's own layers, optax."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def compiled_once():
    """Lets the small trainings of a module that are alike share their programs."""
    from tests.helpers.small_training import compile_once

    with pytest.MonkeyPatch.context() as patch:
        compile_once(patch)
        yield


@pytest.fixture(scope="module", autouse=True)
def figures(request):
    """Leaves the figures out of reports, since drawing takes half of a small run; modules marked `figures` have them.

    Its value is a context manager within which they are drawn.
    """
    patch = pytest.MonkeyPatch()

    def leave_out():
        patch.setattr("sealkd_jax.report.page.to_png", lambda figure: b"")
        patch.setattr("sealkd_jax.report.page.to_svg", lambda figure, name, description: "")

    @contextmanager
    def drawn():
        patch.undo()
        yield
        leave_out()

    if not request.node.get_closest_marker("figures"):
        leave_out()
    yield drawn
    patch.undo()
