"""The archives of CIFAR10-DVS and DVS128 Gesture as their authors publish them: known by checksums, and unpacked."""

import tarfile
import zipfile
from pathlib import Path

from sealkd_jax.errors import InputError, reason
from sealkd_jax.files import md5, open_file

MD5 = {
    "cifar10-dvs": {
        "airplane.zip": "0afd5c4bf9ae06af762a77b180354fdd",
        "automobile.zip": "8438dfeba3bc970c94962d995b1b9bdd",
        "bird.zip": "a9c207c91c55b9dc2002dc21c684d785",
        "cat.zip": "52c63c677c2b15fa5146a8daf4d56687",
        "deer.zip": "b6bf21f6c04d21ba4e23fc3e36c8a4a3",
        "dog.zip": "f379ebdf6703d16e0a690782e62639c3",
        "frog.zip": "cad6ed91214b1c7388a5f6ee56d08803",
        "horse.zip": "e7cbbf77bec584ffbf913f00e682782a",
        "ship.zip": "41c7bd7d6b251be82557c6cce9a7d5c9",
        "truck.zip": "89f3922fd147d9aeff89e76a2b0b70a7",
    },
    "dvs-gesture": {"DvsGesture.tar.gz": "8a5c71fb11e24e5ca5b11866ca6c00a1"},
}
"""Name of each published archive -> its MD5, as SpikingJelly gives it. https://doi.org/10.6084/m9.figshare.4724671 has
the first ten, IBM's page of DVS128 Gesture the last."""
FOLDERS = {"cifar10-dvs": "CIFAR10DVS", "dvs-gesture": "."}


def unpack(name: str, source: Path, data_dir: Path) -> Path:
    """Unpacks the official archives to where the loader finds the recordings.

    Args:
        name: cifar10-dvs or dvs-gesture.
        source: the archive; for cifar10-dvs the directory with the ten archives.
        data_dir: directory of the data sets.

    Raises:
        InputError: if an archive is missing, damaged, or another one.
    """
    paths = [source / file for file in MD5[name]] if source.is_dir() else [source]
    if not source.is_dir() and len(MD5[name]) > 1:
        raise InputError(f"{source}: expected the directory with {', '.join(MD5[name])}")
    for path, expected in zip(paths, MD5[name].values(), strict=True):
        _check(path, expected)
    folder = data_dir / FOLDERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)  # its checksum says that it is the published one
        else:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
    return folder


def _check(path: Path, expected: str) -> None:
    """Compares the checksum; an archive with another one is damaged, or whole and another archive."""
    try:
        with open_file(path) as file:
            found = md5(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; expected the published archive") from error
    if found == expected:
        return
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise ValueError(f"{broken} differs from its checksum")
        else:
            with tarfile.open(path) as archive:
                for _ in archive:
                    pass
    except Exception as error:  # damaged bytes make zipfile and tarfile raise errors of many kinds
        raise InputError(f"{path}: damaged ({reason(error)}); download it again (MD5 {expected})") from error
    raise InputError(f"{path}: whole, but another archive than the published one: MD5 {found}, expected {expected}")
