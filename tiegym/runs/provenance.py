"""Where a result comes from: versions, revision, device. Facts for a record, nothing that decides.

Each fact is best effort: what can't be found out is None, and never an error.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import gymnasium

from tiegym.runs.folder import FORMAT

PACKAGES = ("torch", "numpy", "gymnasium", "stable_baselines3", "sb3_contrib", "transformers")


_NEEDED = ("config", "task", "step_stats", "weights_sha256")
"""What of an environment is recorded."""


def versions() -> dict[str, str | None]:
    """Versions of Python, tiegym and the `PACKAGES`; None for one that isn't installed."""
    from tiegym import __version__

    found: dict[str, str | None] = {"python": platform.python_version(), "tiegym": __version__}
    return found | {package: _version(package) for package in PACKAGES}


@functools.cache  # a file is parsed for each
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def different_versions(then: Any) -> str:
    """Which of the `versions` that a record has are others now, as text; "" if none are.

    Examples:
        >>> different_versions(versions() | {"torch": "1.0"}).partition(" then")[0]
        'torch 1.0'
    """
    then = then if isinstance(then, dict) else {}
    now = versions()
    return ", ".join(f"{k} {then.get(k)} then, {now[k]} now" for k in now if then.get(k) != now[k])


def git_revision(folder: str | Path = ".") -> dict[str, Any] | None:
    """The commit that a folder is at and whether tracked files differ from it.

    Args:
        folder: Anywhere in the checkout; by default the working directory, since that is where
            the program that makes the run is, be it tiegym's or the user's own.

    Returns:
        `revision` and `dirty`, or None outside a git checkout or without git.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
            # A status that takes the index's lock would make a commit in another terminal fail.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        revision = git("rev-parse", "HEAD")
        return {
            "revision": revision,
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def device_facts(name: str) -> dict[str, Any]:
    """What a `TieConfig.device` stands for on this machine.

    Returns:
        `device` ("cpu", "cuda"), `device_name` (the model's name), `threads` (PyTorch's).
    """
    import torch

    from tiegym.training.resolve import resolve_device

    device = resolve_device(name)
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else _processor_name(),
        "threads": torch.get_num_threads(),
    }


def run_facts(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """The entries of `config.json` that every run has.

    Returns:
        `format`, `checksums` (that summary.json has them, as it had not in version 0.1),
        `created` (UTC), `env` (all fields of the TieConfig), `corpus_sha256`, `weights_sha256`
        (of a pretrained model, or of `initial_weights`; else None), `versions`, `git`, `device`,
        `device_name` and `threads`; see the functions of this module.

    Raises:
        TypeError: If `env` is no TieEnv, wrapped or not.
    """
    inner: Any = env.unwrapped
    if missing := [n for n in _NEEDED if not hasattr(inner, n)]:
        raise TypeError(
            f"{inner!r} has no {', '.join(missing)}: RecordRun records a TieEnv, as "
            'gymnasium.make("TieEnv-v0") makes it, alone or in wrappers'
        )
    return {
        "format": FORMAT,
        "checksums": True,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "env": dataclasses.asdict(inner.config),
        "corpus_sha256": inner.task.sha256,
        "weights_sha256": inner.weights_sha256,
        "versions": versions(),
        "git": git_revision(),
        **device_facts(inner.config.device),
    }


def _processor_name() -> str:
    """The processor's model; Linux tells it in a file, and `platform` mostly doesn't there."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
