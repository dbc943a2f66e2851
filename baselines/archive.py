"""Run folders as one compressed file: the same runs make the same bytes.

`tar xf runs.tar.xz -C runs/results` puts them where `baselines.results` finds them again.
"""

from __future__ import annotations

import lzma
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from tiegym.atomic_write import write_bytes
from tiegym.runs.input_errors import InputError

KEPT = ("config.json", "steps.jsonl", "summary.json")
"""What a reader of runs needs; TensorBoard's events repeat it."""


def archive(folders: Iterable[Path], root: Path, path: Path) -> int:
    """Writes run folders into a .tar.xz file, under their names seen from a folder above them.

    Args:
        folders: Of finished runs.
        root: The folder above all of them.
        path: The archive.

    Returns:
        Its size, in bytes.

    Raises:
        InputError: If a file can't be read, or the archive not written.
    """
    packed = BytesIO()
    try:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for folder in sorted(folders):
                for name in KEPT:
                    content = (folder / name).read_bytes()
                    entry = tarfile.TarInfo((folder / name).relative_to(root).as_posix())
                    entry.size = len(content)  # owner, mode and time are TarInfo's own, always
                    tar.addfile(entry, BytesIO(content))
        content = lzma.compress(packed.getvalue(), preset=9)
        write_bytes(path, content)
    except (OSError, ValueError) as error:  # a name can be too long for the format
        raise InputError(f"{path} can't be written: {error}") from error
    return len(content)
