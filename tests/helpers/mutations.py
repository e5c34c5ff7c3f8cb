"""Changes of files: one file below a directory, in one way that damage, a slip or an attack might take."""

import json
import os
import random
import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ODD = [
    *(None, True, False, 0, -1, 2, 3, 7, 1e9, 10**9, 10**12, 10**30, 0.5, 1.5, -0.25, 1e308, "", "2", "nan", "[/x]"),
    *("\x1b[2J\x07", "\ud800", "\u202e", "a\nb", "../..", "/dev/zero", "x" * 5000, [], {}, [[]], [1, "a"], {"a": {}}),
]


def mutate_bytes(rng: random.Random, path: Path) -> str:
    """Flip, set, cut, grow, move or repeat some bytes."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    how = rng.choice(["flip", "set", "cut", "drop", "insert", "zero", "repeat", "empty", "swap"])
    if how == "flip" and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif how == "set" and at < len(data):
        data[at] = rng.choice([0, 10, 34, 44, 45, 48, 57, 91, 123, 255])
    elif how == "cut":
        del data[at:]
    elif how == "drop":
        del data[at : at + rng.choice([1, 2, 8, 64])]
    elif how == "insert":
        data[at:at] = rng.choice([b"\0", b"9", b"-", b"\x1b[2J", b'"', b"[" * 2000, bytes(rng.randbytes(16))])
    elif how == "zero":
        data[at : at + 16] = bytes(len(data[at : at + 16]))
    elif how == "repeat":
        data += data[at:]
    elif how == "empty":
        data.clear()
    else:
        half = len(data) // 2
        data[:] = data[half:] + data[:half]
    path.write_bytes(data)
    return f"bytes {how} at {at}"


def mutate_json(rng: random.Random, path: Path) -> str:
    """Replace, remove, rename or nest one value of a JSON file, or one in a line of a `.jsonl`."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = rng.randrange(len(lines))
    value = json.loads(lines[number])
    parent, key = value, rng.choice(sorted(value))
    where = str(key)
    while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.8:
        parent = parent[key]
        key = rng.choice(sorted(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        where += f".{key}"
    how = rng.choice(["odd", "odd", "odd", "remove", "rename", "nest", "scale"])
    if how == "remove":
        parent.pop(key)
    elif how == "rename" and isinstance(parent, dict):
        parent[rng.choice(["[/x]", "\x1b[2J", "", key + " "])] = parent.pop(key)
    elif how == "scale" and isinstance(parent[key], int | float):
        parent[key] = parent[key] * rng.choice([-1, 1.01, 2, 1000])
    else:
        parent[key] = rng.choice(ODD)
    text = json.dumps(value)
    if how == "nest":
        parent[key] = "NEST"
        text = json.dumps(value).replace('"NEST"', "[" * 20_000 + "]" * 20_000)
    lines[number] = text
    path.write_text("\n".join(lines) + "\n")
    return f"json {how} {where}"


def mutate_npz(rng: random.Random, path: Path) -> str:
    """Write an archive that is whole, with one array changed."""
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    how = rng.choice(["nan", "value", "shape", "dtype", "missing", "empty", "order", "huge", "text"])
    if how == "missing":
        del arrays[name]
    elif how == "nan" and array.dtype.kind == "f":
        array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf])
    elif how in ("value", "nan") and array.dtype.kind in "iuf":
        array.flat[rng.randrange(array.size)] = rng.choice([0, 1, 5, 99])
    elif how == "shape":
        arrays[name] = array[..., :-1] if rng.random() < 0.5 else array[None]
    elif how == "dtype":
        kinds = ["S3", "U1", "U9"] if array.dtype.kind == "U" else ["complex64", "U5", "bool", ">i8", "float64", "S3"]
        arrays[name] = array.astype(rng.choice(kinds))
    elif how == "empty":
        arrays[name] = array[:0]
    elif how == "order":
        arrays[name] = np.asfortranarray(array)[::-1]
    elif how == "huge":
        arrays[name] = np.broadcast_to(array.reshape(-1)[:1], (3, 4, 5))
    else:
        arrays[name] = np.array("\x1b[2J")
    np.savez(path, **arrays)
    return f"npz {how} {name}"


def mutate_weights(rng: random.Random, path: Path) -> str:
    """Write safetensors that are whole, with one array changed; their header may be lost."""
    arrays = {name: array.copy() for name, array in load_file(path).items()}
    name = rng.choice(sorted(arrays))
    how = rng.choice(["nan", "value", "missing", "shape", "dtype"])
    if how == "nan":
        arrays[name].flat[0] = np.nan
    elif how == "value":
        arrays[name].flat[0] += 1
    elif how == "missing":
        del arrays[name]
    elif how == "shape":
        arrays[name] = arrays[name][None]
    else:
        arrays[name] = arrays[name].astype(rng.choice(["float16", "float64", "int32"]))
    save_file(arrays, path)
    return f"safetensors {how} {name}"


def mutate_place(rng: random.Random, path: Path) -> str:
    """Remove a file, or put something in its place: a directory, a pipe, a link."""
    how = rng.choice(["remove", "directory", "pipe", "link", "loop", "device", "nowhere"])
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how != "remove":
        to = {"link": Path("precious").absolute(), "loop": path, "device": Path("/dev/zero"), "nowhere": Path("none")}
        path.symlink_to(to[how])
    return f"place {how}"


def mutate(rng: random.Random, root: Path, most: str) -> tuple[Path, str]:
    """Change a file below `root`, or `root` itself, mostly one that the expression `most` finds: the file, and how."""
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    files = [path for path in files if path.suffix not in (".html", ".csv")]  # written only
    if rng.random() < 0.9:
        files = [path for path in files if re.search(most, path.as_posix())]
    path = rng.choice(files)
    ways = [mutate_bytes, mutate_place]
    ways += {".json": [mutate_json] * 4, ".jsonl": [mutate_json] * 2, ".npz": [mutate_npz] * 2}.get(path.suffix, [])
    ways += [mutate_weights] * 2 * (path.suffix == ".safetensors")
    return path, rng.choice(ways)(rng, path)
