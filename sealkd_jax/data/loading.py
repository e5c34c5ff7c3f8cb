"""Every data set by its name."""

import math
import warnings
from pathlib import Path

import numpy as np

from sealkd_jax.data.datasets import Dataset, OnDemand, Split
from sealkd_jax.data.events import EVENT_DATASETS, Framing
from sealkd_jax.errors import InputError

DATA_DIR = Path("~/tensorflow_datasets")
"""Where data sets are, if nothing else is said."""
IMAGES = ("cifar10", "cifar100", "fashion-mnist")
MOST_IN_MEMORY = 2**34  # bytes of training images from folders
EVENTS = tuple(EVENT_DATASETS)
DATASETS = ("digits", *IMAGES, "imagenet", *EVENTS)
"""The names that `load` takes, beside `npz:FILE` and `folder:DIR`."""


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    framing: Framing | None = None,
    cache_dir: Path = Path("runs/frames"),
    on_demand: bool = False,
    image_size: int = 224,
) -> Dataset:
    """Loads the data set of that name.

    Args:
        name: one of `DATASETS`, or `npz:FILE` for your own arrays, or `folder:DIR` for your own pictures.
        data_dir: where data sets are; `DATA_DIR` where not given.
        framing: how recordings of events become frames, and where these are kept: `cache_dir`.
        on_demand: images are read when they are needed, not all at once.
        image_size: height and width of pictures from folders.

    Warns of recordings that were left out, where the framing says so.

    Raises:
        InputError: if there is none of that name, or it is missing or damaged.
    """
    data_dir = (data_dir or DATA_DIR).expanduser()
    if name == "digits":
        dataset = _digits()
    elif name.startswith("npz:"):
        from sealkd_jax.data.arrays import load_npz

        dataset = load_npz(Path(name.removeprefix("npz:")).expanduser())
    elif name.startswith("folder:") or name == "imagenet":
        from sealkd_jax.data.folders import load_folder

        folder = data_dir / "imagenet" if name == "imagenet" else Path(name.removeprefix("folder:")).expanduser()
        dataset = load_folder(folder, image_size)
        if on_demand:
            return dataset
        if math.prod(dataset.train.images.shape) > MOST_IN_MEMORY:
            raise InputError(f"{folder}: {len(dataset.train.labels)} pictures do not fit into memory; give --stream")
        return dataset.in_memory()
    elif name in IMAGES:
        from sealkd_jax.data.tfds import load_tfds

        return load_tfds(name, data_dir, on_demand=on_demand)
    elif name in EVENTS:
        if framing is None:
            raise InputError(f"dataset {name}: recordings of events; give a framing, such as Framing(timesteps=4)")
        dataset = EVENT_DATASETS[name](data_dir, framing, cache_dir)
        if dataset.skipped:
            warnings.warn(
                f"{name}: {len(dataset.skipped)} recordings left out: {'; '.join(dataset.skipped[:3])}", stacklevel=2
            )
    else:
        raise InputError(f"dataset {name!r}: unknown; expected one of {', '.join(DATASETS)}, npz:FILE or folder:DIR")
    if not on_demand:
        return dataset
    train, validation, test = (
        split._replace(images=OnDemand(split.images)) for split in (dataset.train, dataset.validation, dataset.test)
    )
    return Dataset(dataset.name, train, validation, test, dataset.classes)


def _digits() -> Dataset:
    """scikit-learn's handwritten digits, 8x8, 1,797 images; comes with the package, nothing is downloaded.

    The split is fixed and stratified: 1,257 train, 180 validation, 360 test.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # 0..16 -> 0..255, invertible
    labels = digits.target.astype(np.int32)
    rest, last = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    most, some = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    train, validation, test = (Split(images[part], labels[part]) for part in (most, some, last))
    return Dataset("digits", train, validation, test, tuple("0123456789"))
