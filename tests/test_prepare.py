"""train.prepare: what it needs and refuses, and Fashion-MNIST prepared by TFDS itself, bit for bit."""

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sealkd_jax.data import DATASETS, load
from sealkd_jax.errors import InputError
from sealkd_jax.programs import cli
from sealkd_jax.programs.commands import prepare
from tests.helpers.prepared_data import make_arrays, write_prepared

TENSORFLOW = importlib.util.find_spec("tensorflow") is not None
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
MADE = {"train": 1504176606, "t10k": 1504176627}  # when the official files were packed


def refused(*arguments, capsys) -> str:
    """What it says on stderr when it refuses: one line, exit status 2, nothing on stdout."""
    with pytest.raises(SystemExit) as exit:
        cli.run(lambda: prepare.main([str(argument) for argument in arguments]))
    words = capsys.readouterr()
    assert exit.value.code == 2 and words.out == "" and words.err.count("\n") == 1
    return words.err.strip()


@pytest.fixture
def tensorflow(monkeypatch):
    """What TFDS takes for TensorFlow until it extracts an archive; nothing here comes so far."""
    if not TENSORFLOW:
        stub = ModuleType("tensorflow")
        stub.__version__ = "2.99"
        monkeypatch.setitem(sys.modules, "tensorflow", stub)


@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow is installed")
def test_without_tensorflow_the_command_that_installs_it_is_given(tmp_path, capsys):
    message = refused("cifar10", "--data-dir", tmp_path, capsys=capsys)
    assert message == 'error: preparing cifar10 needs TensorFlow: pip install "sealkd-jax[prepare]"'


def test_what_is_prepared_stays_as_it_is(tmp_path, capsys):
    directory = write_prepared("fashion-mnist", tmp_path, make_arrays("fashion-mnist", 10, 10))
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    prepare.main(["fashion-mnist", "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out == f"fashion-mnist: {directory}\n"
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


def test_what_cannot_be_prepared_is_named(tmp_path, capsys):
    assert "digits: nothing to prepare; expected one of cifar10, cifar100, " in refused("digits", capsys=capsys)
    arguments = ("cifar10", "--data-dir", tmp_path, "--manual-dir", tmp_path / "none")
    assert f"--manual-dir {tmp_path / 'none'}: no such directory" in refused(*arguments, capsys=capsys)
    assert f"--manual-dir {tmp_path}: for images; " in refused("nmnist", "--manual-dir", tmp_path, capsys=capsys)


def test_recordings_of_events_are_downloaded_where_the_options_say(tmp_path, monkeypatch, capsys):
    asked = []
    source = DATASETS["nmnist"]._replace(prepare=lambda *given: asked.append(given) or tmp_path / "NMNIST")
    monkeypatch.setitem(DATASETS, "nmnist", source)
    prepare.main(["nmnist", "--data-dir", str(tmp_path)])
    assert asked == [("nmnist", tmp_path, None)] and capsys.readouterr().out == f"nmnist: {tmp_path / 'NMNIST'}\n"


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # TFDS leaves its connection to the collector
def test_without_network_the_address_and_the_way_around_it_are_given(tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # where no server listens
    with pytest.raises(InputError) as caught:
        prepare.main(["cifar10", "--data-dir", str(tmp_path)])
    message = str(caught.value)
    assert message.startswith(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz: cifar10 could not be prepared ("
    )
    assert message.endswith("as manual_dir, with each under its own name (cifar-10-binary.tar.gz)")
    assert "\n" not in message


@pytest.mark.usefixtures("tensorflow")
def test_an_archive_that_is_not_the_official_one_is_refused(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"another")
    with pytest.raises(InputError) as caught:
        prepare.main(["cifar10", "--data-dir", str(tmp_path / "data"), "--manual-dir", str(tmp_path)])
    message = str(caught.value)
    assert f"{tmp_path / 'cifar-10-binary.tar.gz'}, has wrong checksum" in message and "\n" not in message


def official(name: str) -> bytes:
    """Debian's file with the name and the time that its header lacks, so that it is the official one."""
    packed, part = (DEBIAN / f"{name}.gz").read_bytes(), name.split("-")[0]
    time, has_name = MADE[part].to_bytes(4, "little"), bytes([packed[3] | 8])  # RFC 1952
    return packed[:3] + has_name + time + packed[8:10] + name.encode() + b"\0" + packed[10:]


def rows(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """Each image with its label, in an order of its own."""
    return sorted(map(bytes, np.column_stack([images.reshape(len(images), -1), labels.astype(np.uint8)])))


def test_the_official_files_of_fashion_mnist_are_known_by_their_checksums(tmp_path, capsys):
    """What is read is what they hold, and no warning is given."""
    if not DEBIAN.is_dir():
        pytest.skip(f"{DEBIAN} is not there: apt-get install dataset-fashion-mnist")
    names = [f"{part}-{kind}-ubyte" for part in MADE for kind in ("images-idx3", "labels-idx1")]
    for name in names:
        (tmp_path / f"{name}.gz").write_bytes(official(name))
    prepare.main(["fashion-mnist", "--from", str(tmp_path), "--data-dir", str(tmp_path / "data")])
    words = capsys.readouterr()
    assert words.out == f"fashion-mnist: {tmp_path}/data/fashion-mnist.npz\n" and words.err == ""
    with np.load(tmp_path / "data/fashion-mnist.npz") as found:
        raw = gzip.decompress((DEBIAN / "t10k-images-idx3-ubyte.gz").read_bytes())
        assert found["x_test"].tobytes() == raw[16:] and len(found["y_train"]) == 60_000


def test_fashion_mnist_prepared_by_tfds_is_the_official_one_bit_for_bit(tmp_path):
    if not TENSORFLOW:
        pytest.skip("TFDS prepares with TensorFlow, which is not installed: pip install tensorflow-cpu")
    if not DEBIAN.is_dir():
        pytest.skip(f"{DEBIAN} is not there: apt-get install dataset-fashion-mnist")
    raw = {}
    for part in MADE:
        for kind, start in (("images-idx3", 16), ("labels-idx1", 8)):
            name = f"{part}-{kind}-ubyte"
            (tmp_path / f"{name}.gz").write_bytes(official(name))
            raw[part, kind] = np.frombuffer(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes()), np.uint8, -1, start)
    command = [sys.executable, "-m", "train.prepare", "fashion-mnist", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run([*command, "--manual-dir", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    dataset = load("fashion-mnist", data_dir=tmp_path / "data")
    assert len(dataset.train.labels) == 54_000 and len(dataset.validation.labels) == 6_000
    assert np.bincount(dataset.validation.labels).tolist() == [600] * 10
    training = [np.concatenate(both) for both in zip(dataset.train, dataset.validation, strict=True)]
    for part, (images, labels) in (("train", training), ("t10k", dataset.test)):
        assert rows(images, labels) == rows(raw[part, "images-idx3"].reshape(-1, 28, 28, 1), raw[part, "labels-idx1"])
