"""Getting the data sets of events, from where tonic knows them to be."""

import tarfile
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

from sealkd_jax.data.events.missing import extra
from sealkd_jax.errors import InputError

_FAILURES = (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def download(name: str, data_dir: Path) -> None:
    """Downloads a data set to where its loader finds it, compares checksums, and extracts it where it has to be.

    An archive that is already there and whole is not downloaded again. N-MNIST stays in its two archives.

    Args:
        name: nmnist, dvs-gesture or cifar10-dvs.
        data_dir: where data sets are.

    Raises:
        InputError: if the name is unknown, the server cannot be reached, or what came is damaged.
    """
    with extra():
        from tonic.datasets import CIFAR10DVS, NMNIST, DVSGesture
        from tonic.download_utils import download_url, extract_archive
    halves = {"nmnist": NMNIST, "dvs-gesture": DVSGesture}
    if name in halves:
        half = halves[name]
        archives = [
            (half.train_url, half.train_filename, half.train_md5),
            (half.test_url, half.test_filename, half.test_md5),
        ]
        folder = data_dir / half.__name__
    elif name == "cifar10-dvs":
        archives = [(CIFAR10DVS.url, CIFAR10DVS.filename, CIFAR10DVS.file_md5)]
        folder = data_dir / CIFAR10DVS.__name__
    else:
        raise InputError(f"dataset {name!r}: unknown; expected nmnist, dvs-gesture or cifar10-dvs")
    inside = CIFAR10DVS.data_filename if name == "cifar10-dvs" else []  # archives in the archive, one a class
    for url, file, md5 in archives:
        try:
            download_url(url, str(folder), filename=file, md5=md5)
            for archive in [] if name == "nmnist" else [file, *inside]:
                extract_archive(str(folder / archive))
        except _FAILURES as error:
            raise InputError(
                f"{name}: {url} could not be downloaded and extracted: {error}; try again later, or put {file} "
                f"(MD5 {md5}) into {folder} yourself and run this again"
            ) from error
