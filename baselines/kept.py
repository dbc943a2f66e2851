"""Runs that a comparison kept: whether they would come out the same if they were run now.

A run folder is named after its options, so that the same comparison finds it again. What else
decides a run is in its record: the text, the tokenizer, pretrained weights, the table, the run that
it begins with, the code, the versions of the libraries that train, and PyTorch's threads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from baselines.policies import ComparedPolicy
from tiegym.bench.table import load_table
from tiegym.config import TieConfig
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.json_files import plain
from tiegym.runs.provenance import versions
from tiegym.runs.source_code import source_sha256
from tiegym.training.load import load_data, make_workload

Stale = Literal["refuse", "rerun", "keep"]

TEXT = "their text was another"
TOKENIZER = "their tokenizer was another"
WEIGHTS = "their pretrained model was another"
SOURCE = "the run that they begin with was another"
ELSEWHERE = "they were made in a folder of another name"
NEVER_KEPT = (TEXT, TOKENIZER, WEIGHTS, SOURCE, ELSEWHERE)
"""Such runs say nothing about what is asked for."""


def stale_folders(
    kept: Iterable[tuple[ComparedPolicy, Path]], threads: int | None, stale: Stale
) -> set[Path]:
    """The folders of kept runs that are to be made anew.

    Args:
        kept: Folders with a run, finished or not, and the policies that they are of.
        threads: PyTorch's threads that a run would have now; None doesn't count them.
        stale: What happens to runs that would come out otherwise: "refuse" them, "rerun" them, or
            "keep" them, which runs on another text, with another tokenizer, from another
            pretrained model or from another run never are, nor those of other options or another
            seed, which have been given the folder's name.

    Raises:
        InputError: If runs are refused, naming what differs; if a record is damaged; or if the
            text can't be read.
    """
    reasons: dict[str, list[Path]] = {}
    known = _data_sha256(), _weights_sha256(), _sources()
    for policy, folder in kept:
        for reason in _differences(policy, folder, threads, *known):
            reasons.setdefault(reason, []).append(folder)
    if stale == "keep":
        reasons = {why: folders for why, folders in reasons.items() if why in NEVER_KEPT}
    if reasons and stale != "rerun":
        raise InputError(_refusal(reasons))
    return {folder for folders in reasons.values() for folder in folders}


def _differences(
    policy: ComparedPolicy,
    folder: Path,
    threads: int | None,
    data_sha256: Callable[[TieConfig], tuple[str, str | None]],
    weights_sha256: Callable[[TieConfig], str | None],
    source_of: Callable[[ComparedPolicy], Any],
) -> list[str]:
    try:
        config = read_config(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{error}; remove {folder} to run it again") from error
    found = []
    if (config.get("options") or {}).get("name") not in (None, folder.name):
        found.append(ELSEWHERE)
    env = policy.options.env
    text, tokenizer = config.get("corpus_sha256"), config.get("tokenizer_sha256")
    if text is not None and text != data_sha256(env)[0]:
        found.append(TEXT)
    elif tokenizer is not None and tokenizer != data_sha256(env)[1]:  # which may be of the text
        found.append(TOKENIZER)
    weights = config.get("weights_sha256")
    if weights is not None and _is_given(env) and weights != weights_sha256(env):
        found.append(WEIGHTS)
    if config.get("source_sha256") != source_sha256(policy.module):
        found.append("their code was another")
    table = getattr(policy.options, "table", None)
    if table is not None and config.get("table_sha256") not in (None, load_table(table).sha256):
        found.append("their table was another")
    if tables := getattr(policy.options, "learn_from", ()):
        now_there = [load_table(name).sha256 for name in tables]
        if config.get("tables_sha256") not in (None, now_there):
            found.append("one of their tables was another")
    if config.get("source") is not None:
        source = source_of(policy)
        if isinstance(source, InputError):
            found.append(f"the run that they begin with can't be read ({source})")
        elif config["source"] != source:
            found.append(SOURCE)
    packages = ["torch"] if env.model == "gpt" else ["torch", "transformers"]
    if policy.module.startswith("agents."):
        packages += ["numpy", "gymnasium", "stable_baselines3", "sb3_contrib"]
    now = versions()
    for package in packages:
        if (then := _version(config, package)) != now[package]:
            found.append(f"their {_NAMES.get(package, package)} was {then}, not {now[package]}")
    if threads is not None and (then := config.get("threads")) != threads:
        found.append(f"they had {then} threads, not {threads} (--threads)")
    return found


_NAMES = {"torch": "PyTorch"}
"""Of packages that are called otherwise."""


def _is_given(env: TieConfig) -> bool:
    """Whether weights are read; where a program finds them itself, it says which in its record."""
    return env.model.startswith("hf:") or env.initial_weights is not None


def _version(config: dict[str, Any], package: str) -> Any:
    versions = config.get("versions")
    return versions.get(package) if isinstance(versions, dict) else None


def _data_sha256() -> Callable[[TieConfig], tuple[str, str | None]]:
    """What hashes the data and the tokenizer of environments, each once.

    They may be edited before the next call.
    """
    known: dict[tuple[str, str, str, str, int], tuple[str, str | None]] = {}

    def sha256(env: TieConfig) -> tuple[str, str | None]:
        key = (env.model, env.task, env.corpus, env.tokenizer, env.block_size)
        if key not in known:
            with as_input_errors():
                data = load_data(env)
                tokenizer = data.tokenizer
                known[key] = data.sha256, None if tokenizer is None else tokenizer.sha256
        return known[key]

    return sha256


def _sources() -> Callable[[ComparedPolicy], Any]:
    """What records say of the run that a policy begins with, or why it can't be read, each once."""
    known: dict[Path, Any] = {}

    def source_of(policy: ComparedPolicy) -> Any:
        key = policy.folder(Path(), 0)
        if key not in known:
            try:
                known[key] = plain(policy.options.source_record())
            except InputError as error:
                known[key] = error
        return known[key]

    return source_of


def _weights_sha256() -> Callable[[TieConfig], str | None]:
    """The same for the pretrained weights of environments."""
    known: dict[tuple[str, str, str | None], str | None] = {}

    def sha256(env: TieConfig) -> str | None:
        key = (env.model, env.task, env.initial_weights)
        if key not in known:
            with as_input_errors():
                made = make_workload(dataclasses.replace(env, device="cpu"), load_data(env))
            known[key] = made.weights_sha256
        return known[key]

    return sha256


def _refusal(reasons: dict[str, list[Path]]) -> str:
    folders = list(dict.fromkeys(folder for found in reasons.values() for folder in found))
    named = ", ".join(folder.name for folder in folders[:3])
    if len(folders) > 3:
        named += f" and {len(folders) - 3} more"
    kept = not {*NEVER_KEPT} & reasons.keys()
    keep = ", --stale keep takes them as they are" if kept else ""
    return (
        f"{folders[0].parent} has runs that would come out otherwise now, since "
        f"{', '.join(reasons)}: {named}. --stale rerun makes them anew{keep}, --runs-dir with "
        "another folder leaves them alone"
    )
