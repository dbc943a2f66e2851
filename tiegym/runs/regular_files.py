"""Files of a folder that somebody else may have made: ordinary files, or they aren't touched.

A run folder is handed on, unpacked and mounted. A symbolic link in it could lead what is written
to any file of the user's, and a pipe or a device would keep its reader waiting for ever.
"""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from tiegym.runs.input_errors import DamagedFile


def open_to_read(path: Path) -> BinaryIO:
    """Opens a file to read; links are followed, as files in large stores are links to them.

    Raises:
        DamagedFile: If it is no ordinary file.
        OSError: If it can't be opened.
    """
    # Without O_NONBLOCK the opening of a pipe waits for somebody who writes.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(handle, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def open_to_write(path: Path, mode: str = "a") -> FileIO:
    """Opens a file to append ("a") or to write anew ("w"), unbuffered; never through a link.

    Raises:
        DamagedFile: If it is a link, or no ordinary file.
        OSError: If it can't be opened.
    """
    if path.is_symlink():
        raise _refused(path)

    def opener(name: str, flags: int) -> int:
        # Emptied only once it is known to be an ordinary file.
        flags = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(name, flags, 0o666)

    file = FileIO(str(path), mode, opener=opener)
    try:
        _check(file.fileno(), path)
        if mode == "w":
            file.truncate(0)
    except BaseException:
        file.close()
        raise
    return file


def check_folder(folder: Path) -> None:
    """Refuses to write into a folder in which anything is a link, a pipe or a device.

    Raises:
        DamagedFile: If so; the message names it.
        OSError: If the folder can't be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise _refused(Path(entry.path))


def _check(handle: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise _refused(path)


def _refused(path: Path) -> DamagedFile:
    what = "a symbolic link" if path.is_symlink() else "no ordinary file"
    return DamagedFile(
        f"{path} is {what}, which no run makes: if you trust the folder, put a copy of the file "
        "in its place"
    )
