"""Files that are whole or not there: written beside their destination, flushed, then renamed.

Readers see the old file or the new one, never half of one, and so does whoever comes back after a
power cut. Whatever writes a file in one go writes it with this.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
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


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Gives a temporary folder to fill; at the end of the block it takes the place of `path`.

    If the block fails, the folder is removed, and `path` stays as it was.

    Args:
        path: The new folder; an empty one may be there. Folders above it are made.

    Raises:
        FileExistsError: If it holds something, or is no folder, or a link to one.
        OSError: If it can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir())))
    if taken:
        raise FileExistsError(
            f"{path} is there already, and nothing is written over: choose another folder, or "
            "remove it first"
        )
    temporary = path.absolute().with_name(f".{path.absolute().name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        probe = temporary / f".{secrets.token_hex(4)}"
        probe.touch(0o666, exist_ok=False)
        mode = stat.S_IMODE(probe.stat().st_mode)  # what the umask gives to any new file
        probe.unlink()
        for file in temporary.iterdir():
            file.chmod(mode)  # libraries make some of their own
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        sync_folder(temporary)
        os.replace(temporary, path)  # over nothing, or over an empty folder
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.absolute().parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut, where the file system can do it."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no handles of folders
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
