"""A file's bytes as text: UTF-8 or nothing. What isn't text is refused, never decoded by guess."""

from __future__ import annotations

import codecs
from pathlib import Path

_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"\x1f\x9d": "compress",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
}
_ENCODINGS = {  # UTF-32's marks begin with those of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


_START = 1 << 16
"""Bytes by whose look a file is binary: nobody need read the rest of a disk image."""


def is_binary(path: Path) -> bool:
    """Whether a file is neither text of any encoding nor an archive: a picture, say, or an array.

    Raises:
        OSError: If it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    return b"\0" in start and not _archive(start) and not _wide_encoding(start)


def read_text(path: Path) -> str:
    """A file's text, ending with a line end unless it is empty; raises as `read_utf8`."""
    text = read_utf8(path)
    return text if text.endswith("\n") or not text else text + "\n"


def read_utf8(path: Path) -> str:
    """A file's text as it stands; a byte order mark is dropped.

    Raises:
        ValueError: If it is binary, compressed, or text of another encoding than UTF-8.
        OSError: If it can't be read.
    """
    with path.open("rb") as file:
        content = file.read(_START)
        _require_text(content, path)
        content += file.read()
    _require_text(content, path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"line {line} has the byte 0x{content[error.start]:02x}"
        raise ValueError(_other_encoding(path, what, "LATIN1")) from error


def _require_text(content: bytes, path: Path) -> None:
    if archive := _archive(content):
        raise ValueError(
            f"{str(path)!r} is compressed ({archive}): unpack it, or move it out of the corpus"
        )
    if encoding := _wide_encoding(content):
        raise ValueError(_other_encoding(path, f"it is {encoding}", encoding))
    if b"\0" in content:
        raise ValueError(f"{str(path)!r} holds NUL bytes: it is binary, not text")


def _archive(content: bytes) -> str | None:
    if content[257:262] == b"ustar":
        return "tar"
    for mark, name in _ARCHIVES.items():
        # "BZh" could begin a text, but not with what must follow.
        if content.startswith(mark) and (name != "bzip2" or content[4:7] in (b"1AY", b"\x17\x72E")):
            return name
    return None


def _wide_encoding(content: bytes) -> str | None:
    """UTF-16 or UTF-32, by its mark; without one, by every other byte of its beginning."""
    for mark, name in _ENCODINGS.items():
        if content.startswith(mark):
            return name
    start = content[:4096]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) > 0.4 * len(start) / 2 and min(even, odd) == 0:
        return "UTF-16"
    return None


def _other_encoding(path: Path, what: str, encoding: str) -> str:
    return (
        f"{str(path)!r} is not UTF-8 ({what}): convert it, for example by "
        f"`iconv -f {encoding} -t UTF-8 OLD > NEW` with its true encoding"
    )
