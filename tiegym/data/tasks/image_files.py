"""Pictures from elsewhere: checked before they are decoded, and only of known formats.

A file of a few bytes can claim a picture of gigabytes: its size is read first. A folder of pictures
holds a folder for each class; its links are not followed.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tiegym.data.splits import KEYWORDS
from tiegym.data.tasks.row_files import regular_files

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]
"""(C, H, W)."""

FORMATS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "PPM": (".ppm", ".pgm")}
"""Formats that are decoded, with their usual endings."""

LARGEST_FILE = 1 << 25
"""Bytes."""

LARGEST_SIDE = 1024
"""Pixels; images of tasks have a few hundred."""

LARGEST_TOTAL = 1 << 32
"""Bytes of all pixels; they are kept in memory."""

_CHANNELS = {"1": 1, "L": 1, "P": 3, "RGB": 3}


class LabelledImage(NamedTuple):
    """A picture's pixels, its label as its source has it, and what messages call it."""

    pixels: Pixels
    label: object
    where: str


def decode(content: bytes, where: str) -> Pixels:
    """The pixels of a picture: one channel if it is grey, else red, green and blue.

    Raises:
        ValueError: If it is damaged, of another format, too large, animated, or of a kind whose
            colours depend on what lies behind (transparency) or on a printer.
    """
    from PIL import Image

    if len(content) > LARGEST_FILE:
        raise ValueError(f"{where} has {len(content):,} bytes: more than {LARGEST_FILE:,}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # so that what is suspicious is an error
        try:
            with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
                _require_plain(image, where)
                made = image.convert("L" if _CHANNELS[image.mode] == 1 else "RGB")
        except _PictureError:
            raise
        except Exception as error:  # Pillow raises many kinds, by format and damage
            raise ValueError(
                f"{where} is damaged, or no picture of the formats {', '.join(FORMATS)} "
                f"({type(error).__name__}: {error})"
            ) from error
    pixels = np.asarray(made, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class _PictureError(ValueError):
    """A picture that could be decoded, but isn't taken."""


def _require_plain(image: Image.Image, where: str) -> None:
    """Refuses by the header alone: nothing has been decoded yet."""
    width, height = image.size
    if max(width, height) > LARGEST_SIDE:
        raise _PictureError(
            f"{where} has {height} x {width} pixels: more than {LARGEST_SIDE} a side"
        )
    if getattr(image, "n_frames", 1) != 1:
        raise _PictureError(f"{where} is animated")
    if image.mode not in _CHANNELS or "transparency" in image.info:
        raise _PictureError(
            f"{where} is of the kind {image.mode!r}"
            f"{', with transparency' if 'transparency' in image.info else ''}: save it grey or "
            "as RGB"
        )


def read_folder(folder: Path, corpus: str) -> dict[str, list[LabelledImage]]:
    """The pictures of each split; all are under "train" if there are no folders for splits.

    Args:
        folder: Of folders of classes, or of train, validation and test with those in each (and the
            other names that the library `datasets` knows).
        corpus: What messages call it.

    Raises:
        ValueError: If a file is no picture, or lies in no class, or there is none; or if some
            folders are named for splits and some are not.
        OSError: If something can't be read.
    """
    found: dict[str, list[LabelledImage]] = {}
    total = 0
    for path in regular_files(folder, corpus):
        split, label = _place(path.relative_to(folder), corpus)
        if label is not None:
            where = repr(str(path))
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise ValueError(f"{where} has {size:,} bytes: more than {LARGEST_FILE:,}")
            image = LabelledImage(decode(path.read_bytes(), where), label, where)
            total += image.pixels.nbytes
            require_room(total, corpus)
            found.setdefault(split, []).append(image)
    if not found:
        raise ValueError(f"corpus={corpus!r} is a folder without pictures in folders of classes")
    if "" in found and len(found) > 1:
        raise ValueError(
            f"corpus={corpus!r}: some folders are named for splits, and others are not, such as "
            f"that of {found[''][0].where}: name all of them (train, validation, test), or none"
        )
    if "" in found:
        return {"train": found[""]}
    if "train" not in found:
        raise ValueError(f"corpus={corpus!r} has no folder 'train'")
    return found


def require_room(size: int, corpus: str) -> None:
    """Refuses more pixels than memory should hold.

    Raises:
        ValueError: If they have more bytes than `LARGEST_TOTAL`.
    """
    if size > LARGEST_TOTAL:
        raise ValueError(
            f"corpus={corpus!r}: the images have more than {LARGEST_TOTAL:,} bytes of pixels: "
            "bring fewer or smaller ones"
        )


def _place(path: Path, corpus: str) -> tuple[str, str | None]:
    """The split and the class of a file; no class for what lies beside the pictures."""
    is_picture = any(path.suffix.lower() in endings for endings in FORMATS.values())
    folders = list(path.parts[:-1])
    split = _split(folders[0]) if folders else ""
    if split:
        folders = folders[1:]
    if not folders and not is_picture:
        return split, None  # a description
    if len(folders) != 1 or not is_picture:
        raise ValueError(
            f"corpus={corpus!r}: {str(path)!r} is no picture in a folder of its class: write "
            "CLASS/NAME or SPLIT/CLASS/NAME, in one of the formats "
            f"{', '.join(ending for endings in FORMATS.values() for ending in endings)}"
        )
    return split, folders[0]


def _split(folder: str) -> str:
    return next((split for split, words in KEYWORDS.items() if folder.lower() in words), "")
