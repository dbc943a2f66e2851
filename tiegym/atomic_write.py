"""Files that are whole or not there: written beside their destination, flushed, then renamed.

Readers see the old file or the new one, never half of one, and so does whoever comes back after a
power cut. Whatever writes a file in one go writes it with this.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary file to write; at the end of the block it takes the place of `path`.

    If the block fails, `path` stays as it was and the temporary file is removed. One that a killed
    process leaves is named `.NAME.XXXXXXXX.tmp`, beside `path`. The new file has the mode that the
    process's umask gives to any new file.

    Args:
        path: The destination; its folder must be there.

    Raises:
        OSError: If it can't be written, or `path` is there and no ordinary file: root's rename
            would put a file in the place of a device such as /dev/null.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "answer.txt") as temporary:
        ...     _ = temporary.write_text("42")
        >>> [entry.name for entry in folder.iterdir()]
        ['answer.txt']
    """
    path = Path(path)
    _check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # Not tempfile's: those are readable by their owner alone, and a result is to be shared.
    temporary.touch(0o666, exist_ok=False)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        # A library may have put a file of its own in place of this one, as safetensors does.
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a machine that crashes could keep the name alone
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _check_replaceable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:  # it isn't there, or what makes the temporary file says what is wrong
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "It is a pipe or a device, and no ordinary file", str(path))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a whole file; raises as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut, where the file system can do it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no handles of folders
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
