"""Small archives of CIFAR-10, CIFAR-100 and Fashion-MNIST as their authors publish them, the pickles as of Python 2."""

import gzip
import io
import tarfile
import warnings

import numpy as np
import pytest
from hypothesis import given, settings

from sealkd_jax.data import archives, load
from sealkd_jax.data.archives import convert_archive
from sealkd_jax.errors import InputError
from sealkd_jax.programs.commands import prepare
from tests.helpers.archives import archive_members, pickled
from tests.helpers.event_files import damaged


def tar(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-batches/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_archive_becomes_what_the_data_set_is_read_from(name, version, tmp_path, capsys):
    files, train, test, classes = archive_members(name, version)
    (tmp_path / "official.tar.gz").write_bytes(tar(files))
    prepare.main([name, "--from", str(tmp_path / "official.tar.gz"), "--data-dir", str(tmp_path / "data")])
    words = capsys.readouterr()
    assert words.out == f"{name}: {tmp_path / 'data' / name}.npz\n"
    assert f"readable, but not the published {'cifar-10' if name == 'cifar10' else 'cifar-100'}-{version}" in words.err
    dataset = load(name, data_dir=tmp_path / "data")
    assert dataset.name == name and dataset.classes == classes
    np.testing.assert_array_equal(dataset.test.images, test[0])
    np.testing.assert_array_equal(dataset.test.labels, test[1])
    kept = np.concatenate([dataset.train.images, dataset.validation.images])
    assert (
        sorted(map(bytes, kept)) == sorted(map(bytes, train[0])) and len(dataset.validation.labels) == len(kept) // 10
    )


def test_the_official_archive_is_known_by_its_checksum_and_an_unpacked_one_is_read(tmp_path, monkeypatch):
    files, *_ = archive_members("cifar10", "python")
    (tmp_path / "unpacked").mkdir()
    for name, content in files.items():
        (tmp_path / "unpacked" / name).write_bytes(content)
    with pytest.warns(UserWarning, match="readable, but not the published cifar-10-python.tar.gz: MD5 c58f30"):
        folder = convert_archive("cifar10", tmp_path / "unpacked", tmp_path / "a").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(tar(files))
    md5 = archives._in_tar(tmp_path / "a.tar.gz")[1].pop()
    form = archives.FORMATS["cifar10"][0]._replace(md5={"cifar-10-python.tar.gz": md5})
    monkeypatch.setitem(archives.FORMATS, "cifar10", (form,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.load(convert_archive("cifar10", tmp_path / "a.tar.gz", tmp_path / "b"))["y_train"].size == 100
    assert len(folder) == (tmp_path / "b/cifar10.npz").stat().st_size


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def fashion(folder, train=40, test=10):
    rng, folder = np.random.default_rng(0), folder / "fashion"
    folder.mkdir()
    for part, count in (("train", train), ("t10k", test)):
        pixels = rng.integers(0, 256, (count, 28, 28))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 10)))
    return folder


@pytest.mark.filterwarnings("ignore:.*readable, but:UserWarning")
def test_fashion_mnist_is_read_from_its_four_files(tmp_path):
    convert_archive("fashion-mnist", fashion(tmp_path, 200), tmp_path)
    dataset = load("fashion-mnist", data_dir=tmp_path)
    assert dataset.train.images.shape == (180, 28, 28, 1) and dataset.classes[9] == "Ankle boot"


def test_another_archive_is_told_apart_from_a_damaged_one(tmp_path):
    def refused(content, name="cifar10"):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(InputError) as caught:
            convert_archive(name, tmp_path / "a.tar.gz", tmp_path / "data")
        assert "\n" not in str(caught.value) and not (tmp_path / "data").exists()
        return str(caught.value)

    files, *_ = archive_members("cifar10", "python")
    good = tar(files)
    assert "not cifar100: no meta, test, train in it; expected cifar-100-python.tar.gz" in refused(good, "cifar100")
    assert "cannot be read as .tar.gz" in refused(good[:-100])
    assert "cannot be read as .tar.gz (Not a gzipped file" in refused(b"PK")
    cut = files | {"data_batch_3": files["data_batch_3"][:-900]}
    assert "damaged: " in (said := refused(tar(cut))) and "MD5 c58f30108f718f92721af3b95e74349a expected" in said
    called = files | {"data_batch_1": b"\x80\x02cos\nsystem\nU\x04exit\x85R."}
    assert "damaged: a pickle that calls os.system" in refused(tar(called))
    assert "a pickle with LONG_BINPUT" in refused(tar(files | {"data_batch_1": b"\x80\x02}r\xff\xff\xff\x7f."}))
    short = files | {"batches.meta": pickled({b"label_names": [b"one", b"two"]})}
    assert "expected labels from 0 to 1" in refused(tar(short))
    with pytest.raises(InputError, match="of nmnist none is read"):
        from sealkd_jax.data import prepare as get

        get("nmnist", tmp_path, archive="x")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 2**20)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(2**21)))
    with pytest.raises(InputError, match="more than 1 MiB, unpacked"):
        convert_archive("cifar10", tmp_path / "a.tar.gz", tmp_path)


FILES = archive_members("cifar10", "python")[0]


@given(data=damaged(FILES["data_batch_2"]))
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:.*readable, but:UserWarning")
def test_any_bytes_are_read_as_images_or_refused_by_name(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    for name, content in (FILES | {"data_batch_2": data}).items():
        (folder / name).write_bytes(content)
    try:
        path = convert_archive("cifar10", folder, folder)
    except InputError as error:
        assert str(error).startswith(f"{folder}: damaged: ") and "\n" not in str(error)
    else:
        with np.load(path) as arrays:
            assert len(arrays["x_train"]) == len(arrays["y_train"]) and set(arrays["y_train"]) <= set(range(10))
