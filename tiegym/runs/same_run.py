"""Whether a run that is taken up again is the one that began: its program, options and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiegym.runs import provenance
from tiegym.runs.folder import WHERE_AND_HOW, read_config
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import flat, write_json


def check_options(folder: Path, recorded: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Checks that a run goes on with the program and the options that it began with.

    The module that runs is never taken from a folder that somebody else may have made. Options are,
    unless the command line has its own.

    Args:
        folder: Of the run.
        recorded: Its `config.json`.
        given: `program`, `module` and `options` of the program that runs now.

    Raises:
        InputError: If something differs; the message names it.
    """
    theirs, ours = _identity(recorded), _identity(given)
    different = [
        f"{key} ({theirs.get(key)!r} then, {ours.get(key)!r} now)"
        for key in ours.keys() | theirs.keys()
        if key not in WHERE_AND_HOW and theirs.get(key) != ours.get(key)
    ]
    if different:
        raise InputError(
            f"{folder} can only go on with the options that it began with; different are "
            + ", ".join(sorted(different))
        )


def check_ranks(folder: Path, recorded: int, given: int) -> None:
    """Checks that a run goes on with as many ranks as it began with: sums have other bits else.

    Args:
        folder: Of the run.
        recorded: Ranks that it began with.
        given: Ranks that there are now.

    Raises:
        InputError: If they are others.
    """
    if recorded != given:
        how = f"torchrun with {recorded} ranks in all" if recorded > 1 else "python -m, no torchrun"
        raise InputError(
            f"{folder} can only go on with as many ranks as it began with, {recorded}, and here "
            f"are {given}: start it by {how}"
        )


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {"program": config.get("program"), "module": config.get("module")}
    return {**names, **flat(config.get("options") or {})}


def check_corpus(folder: Path, corpus: str, sha256: str) -> None:
    """Checks that a run goes on with the text that it began with, and records that of a new one.

    Args:
        folder: Of the run.
        corpus: The name of its text.
        sha256: Of that text as it is now.

    Raises:
        InputError: If it began with another text; the message names both.
    """
    config = read_config(folder)
    recorded = config.get("corpus_sha256")
    if recorded is None:
        write_json(folder / "config.json", {**config, "corpus_sha256": sha256})
    elif recorded != sha256:
        versions = provenance.different_versions(config.get("versions"))
        where = f" (a path is read from the working directory, {Path.cwd()})"
        raise InputError(
            f"{folder} can only go on with the text that it began with: corpus {corpus!r}"
            f"{where if Path(corpus).exists() else ''} has sha256 {sha256}, and had {recorded}"
            f"{f'; versions differ, too: {versions}' if versions else ''}. Give it that text "
            "again, or start anew"
        )


def check_tokenizer(folder: Path, tokenizer: str, sha256: str) -> None:
    """The same for the content of a tokenizer's file.

    Args:
        folder: Of the run.
        tokenizer: Its name. What isn't a file follows from the text and the library's version.
        sha256: Of its content as it is now.

    Raises:
        InputError: If the run began with another; the message names both.
    """
    recorded = read_config(folder).get("tokenizer_sha256")
    if tokenizer.endswith(".json") and recorded not in (None, sha256):
        raise InputError(
            f"{folder} can only go on with the tokenizer that it began with: {tokenizer!r} has "
            f"sha256 {sha256}, and had {recorded}. Give it that file again, or start anew"
        )


def check_weights(folder: Path, model: str, sha256: str | None) -> None:
    """The same for the weights of a pretrained model, and records those of a new run.

    Args:
        folder: Of the run.
        model: Where they are from.
        sha256: Of them as they are now; None if all weights are drawn.

    Raises:
        InputError: If the run began with others; the message names both.
    """
    config = read_config(folder)
    recorded = config.get("weights_sha256")
    if recorded is None and sha256 is not None:
        write_json(folder / "config.json", {**config, "weights_sha256": sha256})
    elif recorded != sha256:
        raise InputError(
            f"{folder} can only go on with the weights that it began with: those of {model!r} "
            f"have sha256 {sha256}, and had {recorded}. Give it these again, or start anew"
        )
