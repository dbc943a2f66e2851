"""Classes of images: scikit-learn's digits, CIFAR-10, the hub's, folders of pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tiegym.data import hub
from tiegym.data.splits import SPLITS
from tiegym.data.tasks.classification import Classification
from tiegym.data.tasks.division import complete, deal
from tiegym.data.tasks.image_files import LabelledImage, decode, read_folder, require_room
from tiegym.data.tasks.labels import number_classes
from tiegym.data.tasks.row_data import Rows
from tiegym.data.tasks.task import Inputs, Task, digest

CIFAR10 = "uoft-cs/cifar10"
"""Where it is on the Hugging Face hub."""

COLUMNS = ("image", "img")
"""Names of the column of images, as data sets have them."""

_LOCAL = "a folder of train/CLASS/*.png, validation/CLASS/*.png and test/CLASS/*.png"


def image_classification(
    corpus: str, image_size: int | tuple[int, int] | None = None
) -> Classification:
    """The task of telling classes of images.

    Pixels are standardised: less the mean of the training split and divided by its standard
    deviation, for each channel.

    Args:
        corpus: See `validate_task`.
        image_size: Height and width that all images must have; None takes those of the first.

    Raises:
        ValueError: If labels or images don't fit.
        OSError: If the data can't be had.
        ImportError: If digits are asked for, and scikit-learn is missing.
    """
    images, names = _read(corpus)
    labels = {split: [image.label for image in found] for split, found in images.items()}
    names, targets = number_classes(labels, corpus, names)
    height, width = _require_one_size(images, corpus, image_size)
    everything = [image for split in SPLITS for image in images[split]]
    channels = max(len(image.pixels) for image in everything)
    require_room(channels * height * width * len(everything), corpus)
    pixels = {
        split: np.stack([np.broadcast_to(i.pixels, (channels, height, width)) for i in found])
        for split, found in images.items()
    }
    content = (
        part for split in SPLITS for i in images[split] for part in (str(i.label), i.pixels.data)
    )
    return Classification(
        name="image-classification",
        corpus=corpus,
        head="image-classification",
        metric_names=("accuracy",),
        uniform_loss=math.log(len(names)),
        sha256=digest(bytes(p) if isinstance(p, memoryview) else p for p in content),
        n_rows={split: len(found) for split, found in images.items()},
        label_names=names,
        n_labels=len(names),
        image_size=(height, width),
        num_channels=channels,
        rows={split: Rows({"pixels": pixels[split]}, targets[split]) for split in SPLITS},
        prepare=_standardisation(pixels["train"]),
    )


@dataclass(frozen=True)
class Standardisation:
    """Makes pixel_values, float32 (B, C, H, W), of pixels from 0 to 255.

    Attributes:
        mean: Of each channel.
        deviation: The standard deviation of each channel; 1 where all pixels are the same.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, columns: dict[str, Tensor]) -> Inputs:
        """The inputs of a batch."""
        values = columns["pixels"].float()
        mean, deviation = (
            values.new_tensor(of_channels)[:, None, None]
            for of_channels in (self.mean, self.deviation)
        )
        return {"pixel_values": (values - mean) / deviation}


def standardisation(task: Task) -> Standardisation | None:
    """What makes a task's inputs of its images; None if it has none."""
    found = getattr(task, "prepare", None)
    return found if isinstance(found, Standardisation) else None


def _standardisation(train: np.ndarray[Any, np.dtype[np.uint8]]) -> Standardisation:
    mean = train.mean((0, 2, 3), dtype=np.float64).tolist()
    deviation = train.std((0, 2, 3), dtype=np.float64).tolist()
    return Standardisation(tuple(mean), tuple(value or 1.0 for value in deviation))


def _require_one_size(
    images: dict[str, list[LabelledImage]], corpus: str, image_size: int | tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width of all images."""
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    first = images["train"][0].pixels.shape
    height, width = image_size or first[1:]
    for found in images.values():
        for image in found:
            if image.pixels.shape[1:] != (height, width):
                _, h, w = image.pixels.shape
                asked = "image_size asks for" if image_size else "the first image has"
                raise ValueError(
                    f"corpus={corpus!r}: {image.where} has {h} x {w} pixels, but {asked} "
                    f"{height} x {width}: resize all of them to one size"
                )
    return height, width


def _read(corpus: str) -> tuple[dict[str, list[LabelledImage]], tuple[str, ...]]:
    """The images of each split, and the names of their classes if a data set tells."""
    if corpus == "digits":
        return _digits(), ()
    if corpus == "cifar10" or corpus.startswith("hf:"):
        return _read_hub(corpus)
    path = Path(corpus)
    if not path.is_dir():
        raise ValueError(
            f"corpus={corpus!r} is a file: images are read from a folder with a folder of pictures "
            "for each class"
        )
    return complete(read_folder(path, corpus), _pixels, corpus), ()


def _pixels(image: LabelledImage) -> bytes:
    return image.pixels.tobytes()


def _digits() -> dict[str, list[LabelledImage]]:
    """Scikit-learn's 1,797 digits of 8 x 8 pixels (UCI; Alpaydin and Kaynak 1998).

    They come without splits: a tenth of them each, by their hashes, are validation and test.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "corpus='digits' comes with scikit-learn, which is not installed: "
            "pip install 'tiegym[models]'"
        ) from error

    loaded = load_digits()
    pixels = np.round(loaded.images * (255 / 16)).astype(np.uint8)[:, None]  # from 0 to 16
    images = [
        LabelledImage(image, int(label), f"image {number}")
        for number, (image, label) in enumerate(zip(pixels, loaded.target, strict=True))
    ]
    parts = deal([_pixels(image) for image in images], shares=(0.8, 0.9))
    return {s: [images[n] for n in part] for s, part in zip(SPLITS, parts, strict=True)}


def _read_hub(corpus: str) -> tuple[dict[str, list[LabelledImage]], tuple[str, ...]]:
    identity, _, configuration = corpus.removeprefix("hf:").partition(":")
    identity = CIFAR10 if corpus == "cifar10" else identity
    loaded = hub.load(corpus, identity, configuration or None, _LOCAL)
    places = hub.keys_of_splits(loaded, corpus)
    found = {
        split: [image for key in keys for image in _of_hub(loaded[key], f"{corpus}, split {key}")]
        for split, keys in places.items()
        if keys
    }
    names = getattr(loaded[places["train"][0]].features["label"], "names", None)
    return complete(found, _pixels, corpus), tuple(names or ())


def _of_hub(table: Any, where: str) -> list[LabelledImage]:
    import datasets

    columns = [name for name in COLUMNS if name in table.column_names]
    if len(columns) != 1 or "label" not in table.column_names:
        raise ValueError(
            f"{where} needs a column {' or '.join(COLUMNS)} and a column label; it has the columns "
            f"{', '.join(table.column_names)}"
        )
    if not isinstance(table.features[columns[0]], datasets.Image):
        raise ValueError(f"{where}: the column {columns[0]!r} holds no images")
    rows = table.select_columns([columns[0], "label"]).cast_column(
        columns[0], datasets.Image(decode=False)
    )
    images = []
    for number, row in enumerate(rows, start=1):
        name = f"{where}, row {number}"
        content = row[columns[0]]["bytes"]
        if content is None:  # it would be a path, of whatever file
            raise ValueError(f"{name} holds no image")
        images.append(LabelledImage(decode(content, name), row["label"], name))
    return images
