"""Downloads of event data sets, with tonic's addresses and checksums."""

from pathlib import Path

from sealkd_jax.data.events.recordings import optional_dependency
from sealkd_jax.errors import InputError


def download(name: str, data_dir: Path, manual_dir: Path | None = None) -> Path:
    """Downloads a data set of recordings to where its loader finds it, and compares checksums.

    A whole archive that is there already is not downloaded again. N-MNIST is read from its archives; the others are
    extracted.

    Args:
        name: nmnist, dvs-gesture, cifar10-dvs, n-caltech101 or shd.
        data_dir: directory of the data sets.
        manual_dir: refused; archives that you have go into the data set's folder in `data_dir`.

    Returns:
        The folder of the data set.

    Raises:
        InputError: if the server cannot be reached, or what came is damaged.
    """
    with optional_dependency():
        from tonic.datasets import CIFAR10DVS, NCALTECH101, NMNIST, SHD, DVSGesture
        from tonic.download_utils import download_url, extract_archive
    kinds = {"nmnist": NMNIST, "dvs-gesture": DVSGesture, "cifar10-dvs": CIFAR10DVS, "n-caltech101": NCALTECH101}
    kind = (kinds | {"shd": SHD})[name]
    folder = data_dir / kind.__name__
    if manual_dir is not None:
        raise InputError(f"manual_dir {manual_dir}: for images; put the archives of {name} into {folder}")
    inner = {CIFAR10DVS: CIFAR10DVS.data_filename, NCALTECH101: [NCALTECH101.data_filename]}.get(kind, [])
    for part in ("",) if inner else ("train_", "test_"):
        if kind is SHD:
            file, md5 = getattr(SHD, f"{part}zip"), getattr(SHD, f"{part}md5")
            url = SHD.base_url + file
        else:
            url, file, md5 = (
                getattr(kind, name) for name in (f"{part}url", f"{part}filename", f"{part or 'file_'}md5")
            )
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
