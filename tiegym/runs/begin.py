"""The beginning of a run: a folder and a journal of its own, or those of the run to resume."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import torch

from tiegym.runs import provenance
from tiegym.runs.folder import FORMAT, is_finished, read_config, unique_run_folder
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import Journal, remove_leftovers
from tiegym.runs.json_files import plain, write_json
from tiegym.runs.options import RunOptions, module_name
from tiegym.runs.ranks import n_ranks
from tiegym.runs.regular_files import check_folder
from tiegym.runs.same_run import check_options, check_ranks
from tiegym.runs.source_code import source_sha256

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, or a file larger than it may be."""


class UnusableFolder(OSError, InputError):
    """A run folder can't be made or written where it was asked for."""


class AlreadyFinished(ValueError):
    """A run that is to be resumed has nothing left to do.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} is finished already: there is nothing to resume")
        self.folder = folder


def begin_run(options: RunOptions, program: str) -> Journal:
    """Makes the folder of a run and its journal, or opens those of the run to resume.

    For programs that do something before they have their environment;
    `tiegym.runs.program.open_run` does it for the others. A resumed run gets as many of PyTorch's
    threads as it had: the bits depend on them.

    Args:
        options: The program's options; all of them are recorded.
        program: What the run folder is named after, such as "qlearning".

    Raises:
        AlreadyFinished: If the run to resume is.
        FileNotFoundError: If there is no run to resume.
        BlockingIOError: If another process has it open.
        InputError: If it had other options, a file of it is damaged or a link, or the folder
            can't be written.
        OSError: If the disk is full.
    """
    record = {
        "format": FORMAT,
        "program": program,
        "module": module_name(type(options)),
        "options": plain(options),
        "versions": provenance.versions(),
        "threads": torch.get_num_threads(),
        "source_sha256": source_sha256(type(options).__module__),
        **({"ranks": n_ranks()} if n_ranks() > 1 else {}),
    }
    try:
        if options.resume is None:
            return _begin(options, record)
        return _go_on(options.resume, record)
    except (FileNotFoundError, InputError):
        raise
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        where = options.runs_dir if options.resume is None else options.resume
        raise UnusableFolder(
            f"{where} can't be used for run folders: {error.strerror or error}. Choose another "
            "with --runs-dir, or make it writable"
        ) from error


def _begin(options: RunOptions, record: dict[str, Any]) -> Journal:
    name = options.name
    if name is None:  # a pattern of many layers is longer than a name may be
        name = f"{record['program'][:150]}-seed{options.seed}".replace(":", "-")
    try:
        folder = unique_run_folder(options.runs_dir, name)
    except FileNotFoundError as error:  # a link to nowhere, say
        raise UnusableFolder(f"{options.runs_dir} can't be made: {error.strerror}") from error
    journal = None
    try:
        journal = Journal(folder, module=record["module"])
        write_json(folder / "config.json", record)
    except BaseException:  # it holds no run yet
        if journal is not None:
            journal.close()
        shutil.rmtree(folder)
        raise
    return journal


def _go_on(folder: Path, record: dict[str, Any]) -> Journal:
    config = read_config(folder)
    check_folder(folder)
    if is_finished(folder):
        remove_leftovers(folder)
        raise AlreadyFinished(folder)
    check_options(folder, config, record)
    check_ranks(folder, config.get("ranks", 1), n_ranks())
    journal = Journal(folder, resume=True, module=record["module"])
    if is_finished(folder):  # by the process that had it open until now
        journal.close()
        raise AlreadyFinished(folder)
    if "threads" in config:
        torch.set_num_threads(config["threads"])
    return journal
