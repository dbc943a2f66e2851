"""Images: by name, from folders, and pictures that mean harm."""

import io
import struct
import zlib

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiegym.data.written import write
from tiegym.data.tasks import image_files
from tiegym.data.tasks.image_files import decode
from tiegym.data.tasks.load import load_task

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def picture(shape=(4, 6, 3), kind="PNG", pixels=None):
    """A file's content: random pixels."""
    made = RNG.integers(256, size=shape, dtype=np.uint8) if pixels is None else pixels
    content = io.BytesIO()
    Image.fromarray(made).save(content, kind)
    return content.getvalue()


def folder(path, splits=("",), n=30, shape=(4, 6, 3)):
    for split in splits:
        for label in ("cat", "dog"):
            for k in range(n):
                write(path / split / label / f"{k}.png", picture(shape))
    return str(path)


def test_the_digits_are_real_images_in_splits_that_share_none():
    task = load_task("image-classification", "digits")
    assert task.n_rows == {"train": 1438, "validation": 179, "test": 180}
    assert task.label_names == tuple("0123456789")
    assert (task.image_size, task.num_channels, task.vocab_size) == ((8, 8), 1, 0)
    pixels = {s: {p.tobytes() for p in task.rows[s].columns["pixels"]} for s in task.rows}
    assert not pixels["train"] & (pixels["validation"] | pixels["test"])
    assert not pixels["validation"] & pixels["test"]
    for rows in task.rows.values():
        assert set(rows.targets.tolist()) == set(range(10))


def test_pixels_are_standardised_by_the_training_split():
    task = load_task("image-classification", "digits")
    ((inputs, _),) = task.data(CPU).batches("train", 2000)
    values = inputs["pixel_values"]
    assert values.dtype == torch.float32
    assert values.mean() == pytest.approx(0, abs=1e-4)
    assert values.std() == pytest.approx(1, abs=1e-3)


def test_a_folder_of_classes_is_split_by_what_the_pictures_hold(tmp_path):
    same = picture()
    for k in range(20):
        write(tmp_path / "cat" / f"same{k}.png", same)
    task = load_task("image-classification", folder(tmp_path))
    assert task.label_names == ("cat", "dog")
    assert sum(task.n_rows.values()) == 80
    holders = [
        split
        for split, rows in task.rows.items()
        if any(p.tobytes() == decode(same, "it").tobytes() for p in rows.columns["pixels"])
    ]
    assert len(holders) == 1
    again = load_task("image-classification", str(tmp_path))
    assert again.sha256 == task.sha256


def test_a_folder_of_splits_is_taken_as_it_is_and_a_description_left_out(tmp_path):
    write(tmp_path / "README.md", "About it.")
    place = folder(tmp_path, ("train", "val", "test"), n=3)
    task = load_task("image-classification", place, image_size=(4, 6))
    assert task.n_rows == {"train": 6, "validation": 6, "test": 6}
    assert (task.image_size, task.num_channels) == ((4, 6), 3)
    inputs, targets = task.data(CPU).sample("test", 5, torch.Generator().manual_seed(0))
    assert inputs["pixel_values"].shape == (5, 3, 4, 6)
    assert targets.dtype == torch.int64


def test_grey_pictures_have_one_channel_and_three_among_coloured_ones(tmp_path):
    grey = folder(tmp_path / "grey", n=3, shape=(4, 6))
    assert load_task("image-classification", grey).num_channels == 1
    folder(tmp_path / "mixed", n=3)
    write(tmp_path / "mixed" / "cat" / "grey.png", picture((4, 6)))
    task = load_task("image-classification", str(tmp_path / "mixed"))
    assert task.num_channels == 3
    assert sum(task.n_rows.values()) == 7


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM"])
def test_pixels_are_decoded_as_they_are(kind):
    pixels = np.full((4, 6, 3), (10, 200, 30), dtype=np.uint8)
    found = decode(picture(kind=kind, pixels=pixels), "it")
    assert found.shape == (3, 4, 6)
    assert np.abs(found.astype(int) - pixels.transpose(2, 0, 1)).max() <= (
        3 if kind == "JPEG" else 0
    )


def test_images_of_another_size_are_an_error(tmp_path):
    place = folder(tmp_path, n=3)
    with pytest.raises(ValueError, match="has 4 x 6 pixels, but image_size asks for 8 x 8"):
        load_task("image-classification", place, image_size=8)
    write(tmp_path / "cat" / "z.png", picture((5, 6, 3)))
    with pytest.raises(
        ValueError, match=r"z\.png' has 5 x 6 pixels, but the first image has 4 x 6"
    ):
        load_task("image-classification", place)
    with pytest.raises(
        ValueError, match=r"image \d+ has 8 x 8 pixels, but image_size asks for 32 x 32"
    ):
        load_task("image-classification", "digits", image_size=32)


def png(width, height):
    """A PNG of a few bytes that claims a size, with pixels that would unpack to it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(30_000, 30_000), "damaged, or no picture.*DecompressionBomb"),
        (png(8_000, 8_000), "it has 8000 x 8000 pixels: more than 1024 a side"),
        (png(8, 1025), "it has 1025 x 8 pixels"),
        (png(500, 500), "damaged"),
        (b"", "damaged"),
        (picture()[:60], "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture of the formats PNG, JPEG, BMP, PPM"),
        (picture((4, 6, 4)), "it is of the kind 'RGBA'"),
        (picture(kind="TIFF"), "no picture of the formats"),
        (picture(kind="GIF"), "no picture of the formats"),
    ],
)
def test_pictures_that_mean_harm_or_nothing_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        decode(content, "it")


def test_nothing_is_decoded_of_a_picture_that_is_too_large(monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *a: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="8000 x 8000"):
        decode(png(8_000, 8_000), "it")


def test_animated_and_transparent_pictures_are_refused():
    frames = [Image.new("RGB", (4, 4), (k, 0, 0)) for k in (1, 200)]
    content = io.BytesIO()
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="it is animated"):
        decode(content.getvalue(), "it")
    content = io.BytesIO()
    Image.new("P", (4, 4)).save(content, "PNG", transparency=0)
    with pytest.raises(ValueError, match="with transparency"):
        decode(content.getvalue(), "it")


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    place = folder(tmp_path, n=3)
    monkeypatch.setattr(image_files, "LARGEST_FILE", 50)
    with pytest.raises(ValueError, match="bytes: more than 50"):
        load_task("image-classification", place)


def test_pictures_with_more_pixels_than_memory_should_hold(tmp_path, monkeypatch):
    place = folder(tmp_path, n=3)
    monkeypatch.setattr(image_files, "LARGEST_TOTAL", 5 * 4 * 6 * 3)
    with pytest.raises(ValueError, match="more than 360 bytes of pixels"):
        load_task("image-classification", place)


def test_what_a_folder_must_not_hold(tmp_path):
    def refused(name, message):
        with pytest.raises(ValueError, match=message):
            load_task("image-classification", str(tmp_path / name))

    folder(tmp_path / "link", n=1)
    (tmp_path / "link" / "cat" / "x.png").symlink_to(tmp_path / "link" / "dog" / "0.png")
    refused("link", r"'cat/x\.png' is a link")
    folder(tmp_path / "away", n=1)
    (tmp_path / "away" / "bird").symlink_to(tmp_path / "link" / "dog")
    refused("away", "'bird' is a link")
    folder(tmp_path / "other", n=1)
    write(tmp_path / "other" / "cat" / "notes.txt", "x")
    refused("other", r"'cat/notes\.txt' is no picture in a folder of its class")
    folder(tmp_path / "deep", n=1)
    write(tmp_path / "deep" / "cat" / "black" / "0.png", picture())
    refused("deep", r"'cat/black/0\.png' is no picture in a folder of its class")
    write(tmp_path / "flat" / "0.png", picture())
    refused("flat", r"'0\.png' is no picture in a folder of its class")
    folder(tmp_path / "mixed", ("", "train"), n=1)
    refused("mixed", "some folders are named for splits, and others are not")
    folder(tmp_path / "untrained", ("test",), n=1)
    refused("untrained", "has no folder 'train'")
    write(tmp_path / "none" / "README.md", "x")
    refused("none", "is a folder without pictures")
    for k in range(9):
        write(tmp_path / "one" / "cat" / f"{k}.png", picture())
    refused("one", "have one label, 'cat'")
    with pytest.raises(ValueError, match="is a file: images are read from a folder"):
        load_task("image-classification", str(write(tmp_path / "a.png", picture())))


def hub_images(n, content=None):
    return {
        "img": [{"bytes": content or picture((8, 8, 3)), "path": None} for _ in range(n)],
        "label": [k % 2 for k in range(n)],
    }


FEATURES = datasets.Features(
    {"img": datasets.Image(), "label": datasets.ClassLabel(names=["airplane", "automobile"])}
)


def test_cifar_by_name_has_validation_taken_from_train(serve):
    asked = serve(FEATURES, train=hub_images(60), test=hub_images(6))
    task = load_task("image-classification", "cifar10")
    assert asked == [("uoft-cs/cifar10", None)]
    assert task.n_rows == {"train": 57, "validation": 3, "test": 6}
    assert task.label_names == ("airplane", "automobile")
    assert (task.image_size, task.num_channels) == ((8, 8), 3)


def test_pictures_of_the_hub_are_checked_and_never_read_from_paths(serve, tmp_path):
    serve(FEATURES, train=hub_images(6, png(8_000, 8_000)))
    with pytest.raises(ValueError, match="hf:a/b, split train, row 1 has 8000 x 8000 pixels"):
        load_task("image-classification", "hf:a/b")
    path = str(write(tmp_path / "a.png", picture()))
    serve(FEATURES, train={"img": [{"bytes": None, "path": path}] * 6, "label": [0, 1] * 3})
    with pytest.raises(ValueError, match="row 1 holds no image"):
        load_task("image-classification", "hf:a/b")
    serve(train={"image": ["a", "b"], "label": [0, 1]})
    with pytest.raises(ValueError, match="the column 'image' holds no images"):
        load_task("image-classification", "hf:a/b")
    serve(train={"text": ["a", "b"], "label": [0, 1]})
    with pytest.raises(ValueError, match=r"needs a column image or img .*columns text, label"):
        load_task("image-classification", "hf:a/b")


def test_without_a_network_the_error_says_what_to_bring(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "none")
    monkeypatch.setattr("tiegym.data.hub.is_reachable", lambda: False)
    with pytest.raises(OSError, match=r"corpus='cifar10' could not be loaded.*train/CLASS/\*\.png"):
        load_task("image-classification", "cifar10")


def test_without_scikit_learn_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'tiegym\[models\]'"):
        load_task("image-classification", "digits")
