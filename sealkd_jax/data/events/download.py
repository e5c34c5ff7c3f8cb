"""Downloads of event data sets, with tonic's addresses and checksums."""

from pathlib import Path

from sealkd_jax.data.events.recordings import optional_dependency
from sealkd_jax.errors import InputError


def download(name: str, data_dir: Path, manual_dir: Path | None = None) -> Path:
    """Downloads nmnist, dvs-gesture or cifar10-dvs to where its loader finds it, and compares checksums.

    A whole archive that is there already is not downloaded again. N-MNIST is read from its archives; the others are
    extracted.

    Args:
        name: name of the data set.
        data_dir: directory of the data sets.
        manual_dir: refused; archives that you have go into the data set's folder in `data_dir`.

    Returns:
        The folder of the data set.

    Raises:
        InputError: if the server cannot be reached, or what came is damaged.
    """
    with optional_dependency():
        from tonic.datasets import CIFAR10DVS, NMNIST, DVSGesture
        from tonic.download_utils import download_url, extract_archive
    kind = {"nmnist": NMNIST, "dvs-gesture": DVSGesture, "cifar10-dvs": CIFAR10DVS}[name]
    folder = data_dir / kind.__name__
    if manual_dir is not None:
        raise InputError(f"manual_dir {manual_dir}: for images; put the archives of {name} into {folder}")
    inner = kind.data_filename if kind is CIFAR10DVS else []  # the archive has one archive per class
    for part in ("",) if kind is CIFAR10DVS else ("train_", "test_"):
        url, file, md5 = (getattr(kind, name) for name in (f"{part}url", f"{part}filename", f"{part or 'file_'}md5"))
        try:
            download_url(url, str(folder), filename=file, md5=md5)
            for archive in [] if kind is NMNIST else [file, *inner]:
                extract_archive(str(folder / archive))
        except Exception as error:  # those of the network, the archives and tonic have no class in common
            raise InputError(
                f"{name}: {url} could not be downloaded and extracted: {error}; try again later, or put {file} "
                f"(MD5 {md5}) into {folder} and run this again"
            ) from error
    return folder
