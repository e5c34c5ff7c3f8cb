"""Small archives of CIFAR-10 and CIFAR-100 as their authors publish them, the pickles as of Python 2."""

import io
import pickle

import numpy as np

CLASSES = {"cifar10": 10, "cifar100": 100, "fashion-mnist": 10}


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings."""

    def save_string(self, value):
        short = len(value) < 256
        size = bytes([len(value)]) if short else len(value).to_bytes(4, "little")
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + size + value)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {bytes: save_string}


def pickled(value):
    file = io.BytesIO()
    Python2(file, 2).dump(value)
    return (
        file.getvalue()
        .replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        .replace(b"X\x02\x00\x00\x00u1", b"U\x02u1")
    )


def images(count, classes, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8), np.arange(count) % classes


def rows(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def batch(pixels, labels, fine=""):
    return pickled({b"batch_label": b"one", f"{fine}labels".encode(): labels.tolist(), b"data": rows(pixels)})


def archive_members(name, version):
    """Name in the archive -> content, and the arrays that they hold."""
    classes = CLASSES[name]
    train, test = images(10 * classes, classes, 0), images(classes, classes, 1)
    names = [f"kind_{number}" for number in range(classes)]
    fine, text = "fine_" * (name == "cifar100"), "\n".join(names).encode() + b"\n"
    coarse = bytes(len(fine) > 0)
    parts = [(pixels[a::5], labels[a::5]) for a in range(5) for pixels, labels in [train]] if not fine else [train]
    stems = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"] if not fine else ["train", "test"]
    found = {}
    for stem, (pixels, labels) in zip(stems, [*parts, test], strict=True):
        if version == "python":
            found[stem] = batch(pixels, labels, fine)
        else:
            found[f"{stem}.bin"] = b"".join(
                coarse + bytes([label]) + row.tobytes() for row, label in zip(rows(pixels), labels, strict=True)
            )
    if version == "python":
        meta = {f"{fine}label_names".encode(): [kind.encode() for kind in names]}
        found["meta" if fine else "batches.meta"] = pickled(meta)
    else:
        found["fine_label_names.txt" if fine else "batches.meta.txt"] = text
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return found, joined, test, tuple(names)
