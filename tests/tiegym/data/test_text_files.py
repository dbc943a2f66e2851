"""Bytes that are text, and bytes that are refused by what they are."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from tests.tiegym.data.written import lines, read, write
from tiegym.data.corpora import load_corpus

BOOK = lines("book").encode()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("book.txt", BOOK)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("book.txt"), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(BOOK), "gzip"),
        (bz2.compress(BOOK), "bzip2"),
        (lzma.compress(BOOK), "xz"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 99, "Zstandard"),
        (zipped(), "zip"),
        (tarred(), "tar"),
    ],
)
@pytest.mark.parametrize("name", ["book.txt", "book.jsonl", "c/train.csv", "c/any.gz"])
def test_compressed_text_is_refused_alone_and_in_folders(tmp_path, content, kind, name):
    path = write(tmp_path / name, content)
    where = tmp_path / "c" if name.startswith("c/") else path
    with pytest.raises(ValueError, match=rf"{path.name}' is compressed \({kind}\): unpack it"):
        load_corpus(str(where))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.csv", "c/a.txt"])
def test_wide_encodings_are_refused_and_named(tmp_path, encoding, name):
    path = write(tmp_path / name, lines("text").encode(encoding))
    where = tmp_path / "c" if name.startswith("c/") else path
    with pytest.raises(ValueError, match=r"a\.\w+' is not UTF-8 \(it is UTF-.*iconv"):
        load_corpus(str(where))


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "c/a.txt"])
def test_other_bytes_are_refused_by_their_line(tmp_path, name):
    path = write(tmp_path / name, b"text\nfine\nM\xfcller\n" * 40)
    where = tmp_path / "c" if name.startswith("c/") else path
    with pytest.raises(ValueError, match=r"not UTF-8 \(line 3 has the byte 0xfc\)"):
        load_corpus(str(where))


@pytest.mark.parametrize("content", [bytes(range(256)) * 4, b"\0" * 200, b"a\0b" * 99])
def test_binary_files_are_refused(tmp_path, content):
    path = write(tmp_path / "a.txt", content)
    with pytest.raises(ValueError, match=r"a.txt' holds NUL bytes: it is binary"):
        load_corpus(str(path))


def test_a_byte_order_mark_is_no_text(tmp_path):
    text = lines("é")
    assert "".join(read(write(tmp_path / "a.txt", text.encode("utf-8-sig"))).values()) == text


def test_text_that_begins_like_an_archive_is_text(tmp_path):
    text = "BZh is how bzip2 begins, PK how zip does.\n" * 40
    assert "".join(read(write(tmp_path / "a.txt", text)).values()) == text


@pytest.mark.parametrize(
    "name", ["a[1].txt", "what?.txt", "a*.txt", "x::y.txt", "hf:.txt", "é ü.txt"]
)
def test_a_path_is_that_file_and_no_pattern(tmp_path, name):
    write(tmp_path / "a1.txt", "other\n" * 99)
    write(tmp_path / "ab.txt", "other\n" * 99)
    path = write(tmp_path / name, lines("own"))
    assert "".join(read(path).values()) == lines("own")
