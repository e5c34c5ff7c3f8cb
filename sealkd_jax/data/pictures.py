"""Picture files, decoded by Pillow to RGB of one size.

Axis legend: N pictures, 3 channels.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sealkd_jax.errors import InputError, reason

ENDINGS = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow starts Ghostscript for others
MARGIN = 256 / 224  # the shorter side before the crop of the middle, relative to the size
LONGEST = 4  # ratio of the sides beyond which a picture's ends are cut off before it is scaled
SCALED = "of 16 bits, read as level / 257"
ON_WHITE = "with an alpha channel or a transparent colour, put on white"
SAMPLE_FORMAT = 339  # the tag of TIFF that says whether levels are unsigned (1), signed (2) or floats (3)
FIRST_FRAME = "with several frames or pages, of which the first is read"


class Header(NamedTuple):
    """What is known of a picture before it is decoded.

    Attributes:
        digest: SHA-256 of the file.
        notes: how its pixels differ from what one might expect: of `SCALED`, `ON_WHITE`, `FIRST_FRAME`.
    """

    digest: bytes
    notes: tuple[str, ...]


class Pictures:
    """Files as `datasets.Images`, uint8 `[N, size, size, 3]`."""

    def __init__(self, paths: Sequence[Path], size: int):
        self.paths, self.dtype = paths, np.dtype(np.uint8)
        self.shape: tuple[int, ...] = (len(paths), size, size, 3)

    def read(self, index: np.ndarray) -> np.ndarray:
        """The pictures at `index`, decoded: uint8 `[K, size, size, 3]`."""
        return np.stack([read_picture(self.paths[number], self.shape[1:], MARGIN) for number in index])


def read_header(path: Path) -> Header:
    """Reads the file for its digest, and its header.

    Raises:
        InputError: if it is not a picture, or its levels have no known white.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            with _open(file) as picture:
                found = {
                    SCALED: _has_16_bits(picture),
                    ON_WHITE: picture.has_transparency_data,
                    FIRST_FRAME: getattr(picture, "is_animated", False),
                }
        return Header(digest, tuple(note for note, holds in found.items() if holds))
    except Exception as error:
        raise _unreadable(path, error) from error


def read_picture(path: Path, shape: tuple[int, ...], margin: float) -> np.ndarray:
    """A picture as an image of this shape, uint8 `[H, W, 3]` or grey `[H, W, 1]`.

    Args:
        path: of the picture.
        shape: `[H, W, channels]`.
        margin: the picture is scaled until it covers the image enlarged by this factor; then its middle is cut out.

    Raises:
        InputError: if it is not a picture, is damaged, or the images are neither RGB nor grey.
    """
    if shape[-1] not in (1, 3):
        raise InputError(f"{path}: expected images of {shape[-1]} channels, which pictures do not have; give arrays")
    try:
        with path.open("rb") as file, _open(file) as picture:
            middle = _middle(picture, (shape[1], shape[0]), margin)
            return np.asarray(middle) if shape[-1] == 3 else np.asarray(middle.convert("L"))[..., None]
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file. Damaged bytes make Pillow's decoders raise errors of many kinds."""
    return InputError(f"{path}: cannot be read as a picture ({reason(error)})")


def _open(file: IO[bytes]) -> Image.Image:
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error
    if picture.mode == "F" or (picture.mode == "I" and not _has_16_bits(picture)) or _is_signed(picture):
        kind = "floats" if picture.mode == "F" else "signed or 32-bit integers"
        raise ValueError(f"its levels, {kind}, have no known white; save it with 8 or 16 bits a channel")
    return picture


def _is_signed(picture: Image.Image) -> bool:
    """Whether it is a TIFF file of signed levels, which Pillow reads as unsigned if they have 8 bits."""
    return 2 in getattr(picture, "tag_v2", {}).get(SAMPLE_FORMAT, ())


def _has_16_bits(picture: Image.Image) -> bool:
    """Whether its levels are one channel from 0 to 65,535. Pillow reads colours of 16 bits as 8 bits."""
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))


def _middle(picture: Image.Image, sides: tuple[int, int], margin: float) -> Image.Image:
    """The middle of the picture, of these sides (width, height), after it is scaled to cover them and the margin."""
    covered = [round(side * margin) for side in sides]
    # Decodes a JPEG at a half, a quarter or an eighth of its size if that is enough.
    picture.draft("RGB", (max(covered), max(covered)))
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.size == sides:
        return _rgb(picture)  # as it is
    most = LONGEST * min(picture.size)  # scaled as a whole, 2 x 30,000 pixels would take gigabytes
    rgb = _rgb(_crop(picture, [min(side, most) for side in picture.size]))
    scale = max(side / whole for side, whole in zip(covered, rgb.size, strict=True))
    scaled = [max(side, round(whole * scale)) for side, whole in zip(sides, rgb.size, strict=True)]
    return _crop(rgb.resize(scaled, Image.Resampling.BILINEAR), sides)


def _crop(picture: Image.Image, sides: Sequence[int]) -> Image.Image:
    """The middle of these sides (width, height)."""
    left, top = ((whole - side) // 2 for whole, side in zip(picture.size, sides, strict=True))
    return picture.crop((left, top, left + sides[0], top + sides[1]))


def _rgb(picture: Image.Image) -> Image.Image:
    """The picture as RGB: 16 bits scaled to 8, transparent parts on white."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")
