"""Downloading from a server on this machine, in place of those that tonic names."""

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tonic import datasets

from sealkd_jax.data import Framing, load, prepare
from sealkd_jax.data.events import download
from sealkd_jax.data.events.cifar10_dvs import CLASSES, SPLITS
from sealkd_jax.data.events.splits import published
from sealkd_jax.errors import InputError
from tests.helpers.event_files import aedat4, nmnist, npy, some_events

# tonic's extraction gives no filter, which Python 3.12 and 3.13 warn of; its archives are known by their checksums.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")


@pytest.fixture
def server():
    """Serves `files`; counts what was asked for (HEAD and the like are GET to tonic: it asks for each file twice)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            data = server.files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")
            server.asked.append(self.path)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def zipped(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def serve(server, monkeypatch, dataset, **archives):
    """archives: the prefix of tonic's attributes ("train_", "test_", "") -> content."""
    for prefix, content in archives.items():
        server.files[f"/{prefix}"] = content
        monkeypatch.setattr(dataset, f"{prefix}url", f"{server.url}/{prefix}")
        md5 = "file_md5" if prefix == "" else f"{prefix}md5"
        monkeypatch.setattr(dataset, md5, hashlib.md5(content).hexdigest())


def serve_nmnist(server, monkeypatch):
    def half(part, count):
        return zipped({f"{part}/{i % 10}/{i:05}.bin": nmnist(some_events(20, 34, i)) for i in range(count)})

    serve(server, monkeypatch, datasets.NMNIST, train_=half("Train", 100), test_=half("Test", 10))


def serve_dvs_gesture(server, monkeypatch):
    def half(part, users):
        return tarred(
            {f"ibmGesture{part}/user{u:02}_led/{i}.npy": npy(some_events(20, 128, u)) for u in users for i in range(3)}
        )

    serve(server, monkeypatch, datasets.DVSGesture, train_=half("Train", (1, 2)), test_=half("Test", (24,)))


def serve_cifar10_dvs(server, monkeypatch):
    recording, split = aedat4((0, some_events(20, 128))), published(SPLITS["ours"])
    inner = {
        f"{name}.zip": zipped(
            {f"{name}/cifar10_{name}_{numbers[0]}.aedat4": recording for numbers in split[name].values()}
        )
        for name in CLASSES
    }
    serve(server, monkeypatch, datasets.CIFAR10DVS, **{"": zipped(inner)})


SERVE = {"nmnist": serve_nmnist, "dvs-gesture": serve_dvs_gesture, "cifar10-dvs": serve_cifar10_dvs}


@pytest.mark.filterwarnings("ignore:dvs-gesture. no .* example:UserWarning")
@pytest.mark.parametrize(("name", "count"), [("nmnist", 110), ("dvs-gesture", 9), ("cifar10-dvs", 30)])
def test_what_is_downloaded_can_be_loaded_and_is_kept(tmp_path, server, monkeypatch, name, count):
    SERVE[name](server, monkeypatch)
    prepare(name, tmp_path)
    dataset = load(name, data_dir=tmp_path, framing=Framing(2, size=8), cache_dir=tmp_path / "cache")
    assert sum(map(len, dataset.recordings.values())) == count
    asked = len(server.asked)
    download(name, tmp_path)
    assert len(server.asked) == asked


def test_what_came_damaged_is_named_and_asked_for_again(tmp_path, server, monkeypatch):
    serve_nmnist(server, monkeypatch)
    good = server.files["/train_"]
    server.files["/train_"] = good[:-10]
    with pytest.raises(
        InputError, match=r"nmnist: http.*train_ could not be downloaded and extracted: .*; try again later, or put"
    ):
        download("nmnist", tmp_path)
    server.files["/train_"] = good
    download("nmnist", tmp_path)


def test_a_missing_file_and_a_server_that_is_down_are_named(tmp_path, server, monkeypatch):
    serve_nmnist(server, monkeypatch)
    server.files.clear()
    with pytest.raises(InputError, match=r"put train.zip \(MD5 [0-9a-f]{32}\) into .*NMNIST and run this again"):
        download("nmnist", tmp_path)
    monkeypatch.setattr(datasets.NMNIST, "train_url", "http://127.0.0.1:1/train")
    with pytest.raises(InputError, match=r"could not be downloaded and extracted: .*refused"):
        download("nmnist", tmp_path)
