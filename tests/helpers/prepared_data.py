"""Image data sets on disk, as TFDS prepares them."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "fashion-mnist": (28, 28, 1)}
CLASSES = {"cifar10": 10, "cifar100": 100, "fashion-mnist": 10}


def make_arrays(name: str, train: int, test: int):
    """Random images of the official shape, all different; each class equally often."""
    images = np.random.default_rng(0).integers(0, 256, (train + test, *SHAPES[name])).astype(np.uint8)
    labels = np.arange(train + test) % CLASSES[name]
    return {"train": (images[:train], labels[:train]), "test": (images[train:], labels[train:])}


def write_prepared(name: str, data_dir: Path, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Writes a data set with TFDS's own features and writer; returns its directory."""
    builder = tfds.builder(name.replace("-", "_"), data_dir=data_dir, file_format="array_record")
    features, infos = builder.info.features, []
    if name == "cifar10":  # TFDS knows those of the other two
        features["label"].names = [f"class {label}" for label in range(10)]
    builder.data_path.mkdir(parents=True)
    for split, (images, labels) in splits.items():
        records = []
        for place, (image, label) in enumerate(zip(images, labels, strict=True)):
            example = {"image": Image.fromarray(image.squeeze()), "label": label, "id": f"{split}_{place:05d}"}
            example = {key: value for key, value in (example | {"coarse_label": 0}).items() if key in features}
            records.append((place, features.serialize_example(features.encode_example(example))))
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path, dataset_name=builder.name, split=split, filetype_suffix="array_record"
        )
        ArrayRecordFileAdapter.write_examples(template.sharded_filepath(shard_index=0, num_shards=1), records)
        size = sum(len(record) for _, record in records)
        infos.append(
            tfds.core.SplitInfo(name=split, shard_lengths=[len(records)], num_bytes=size, filename_template=template)
        )
    builder.info.set_splits(tfds.core.splits.SplitDict(infos))
    builder.info.write_to_directory(builder.data_path)
    return Path(builder.data_path)
