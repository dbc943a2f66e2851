"""Runs that a comparison kept: whether they would come out the same if they were run now.

A run folder is named after its options, so that the same comparison finds it again. What else
decides a run is in its record: the text, the table, the code, PyTorch and its threads.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from baselines.policies import ComparedPolicy
from tiegym.bench.table import load_table
from tiegym.config import TieConfig
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import InputError
from tiegym.runs.source_code import source_sha256
from tiegym.training.load import load_data

Stale = Literal["refuse", "rerun", "keep"]

TEXT = "their text was another"


def stale_folders(
    kept: Iterable[tuple[ComparedPolicy, Path]], threads: int | None, stale: Stale
) -> set[Path]:
    """The folders of kept runs that are to be made anew.

    Args:
        kept: Folders with a run, finished or not, and the policies that they are of.
        threads: PyTorch's threads that a run would have now; None doesn't count them.
        stale: What happens to runs that would come out otherwise: "refuse" them, "rerun" them, or
            "keep" them, which runs on another text never are.

    Raises:
        InputError: If runs are refused, naming what differs; if a record is damaged; or if the
            text can't be read.
    """
    reasons: dict[str, list[Path]] = {}
    text_sha256 = _data_sha256()
    for policy, folder in kept:
        for reason in _differences(policy, folder, threads, text_sha256):
            reasons.setdefault(reason, []).append(folder)
    if stale == "keep":
        reasons = {reason: folders for reason, folders in reasons.items() if reason == TEXT}
    if reasons and stale != "rerun":
        raise InputError(_refusal(reasons))
    return {folder for folders in reasons.values() for folder in folders}


def _differences(
    policy: ComparedPolicy,
    folder: Path,
    threads: int | None,
    text_sha256: Callable[[TieConfig], str],
) -> list[str]:
    try:
        config = read_config(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{error}; remove {folder} to run it again") from error
    found = []
    text = config.get("corpus_sha256")
    env = policy.options.env
    if text is not None and text != text_sha256(env):
        found.append(TEXT)
    if config.get("source_sha256") != source_sha256(policy.module):
        found.append("their code was another")
    table = getattr(policy.options, "table", None)
    if table is not None and config.get("table_sha256") not in (None, load_table(table).sha256):
        found.append("their table was another")
    torch = importlib.metadata.version("torch")
    if (then := _version(config)) != torch:
        found.append(f"their PyTorch was {then}, not {torch}")
    if threads is not None and (then := config.get("threads")) != threads:
        found.append(f"they had {then} threads, not {threads} (--threads)")
    return found


def _version(config: dict[str, Any]) -> Any:
    versions = config.get("versions")
    return versions.get("torch") if isinstance(versions, dict) else None


def _data_sha256() -> Callable[[TieConfig], str]:
    """What hashes the data of environments, each once: it may be edited before the next call."""
    known: dict[tuple[str, str, str, str, int], str] = {}

    def sha256(env: TieConfig) -> str:
        key = (env.model, env.task, env.corpus, env.tokenizer, env.block_size)
        if key not in known:
            try:
                known[key] = load_data(env).sha256
            except (OSError, ValueError) as error:
                raise InputError(str(error)) from error
        return known[key]

    return sha256


def _refusal(reasons: dict[str, list[Path]]) -> str:
    folders = list(dict.fromkeys(folder for found in reasons.values() for folder in found))
    named = ", ".join(folder.name for folder in folders[:3])
    if len(folders) > 3:
        named += f" and {len(folders) - 3} more"
    keep = "" if TEXT in reasons else ", --stale keep takes them as they are"
    return (
        f"{folders[0].parent} has runs that would come out otherwise now, since "
        f"{', '.join(reasons)}: {named}. --stale rerun makes them anew{keep}, --runs-dir with "
        "another folder leaves them alone"
    )
