"""What a run left behind, as far as two runs of the same options must agree in it."""

import io
import zipfile
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tiegym.runs.recorder import read_run

MEASURED = ("seconds", "seconds_per_iteration", "seconds_training", "seconds_evaluation")


def facts(folder: Path) -> dict:
    """Everything of a run folder but times, memory and where it is."""
    run = read_run(folder)
    options = {
        key: value
        for key, value in run.config["options"].items()
        if key not in ("runs_dir", "name", "resume") and not key.startswith("checkpoint_every")
    }
    return {
        "files": sorted(p.name for p in folder.iterdir() if ".tfevents." not in p.name),
        "config": {**run.config, "options": options, "created": None},
        "steps": [_unmeasured(row) for row in run.steps],
        "summary": _unmeasured(run.summary),
        "curves": curves(folder),
        "agent's curves": curves(folder / "agent") if (folder / "agent").exists() else None,
        "agent": agent(folder / "agent.zip"),
        "search": (folder / "search.jsonl").read_text()
        if (folder / "search.jsonl").exists()
        else None,
    }


def _unmeasured(value):
    if isinstance(value, list):
        return [_unmeasured(entry) for entry in value]
    if isinstance(value, dict):
        return {
            key: _unmeasured(entry)
            for key, entry in value.items()
            if key not in MEASURED and not key.startswith("peak_")
        }
    return value


def curves(folder: Path) -> dict:
    """TensorBoard's scalars but times: by tag the steps and their values."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }


def agent(path: Path) -> list | None:
    """All tensors of a Stable-Baselines3 agent, its optimiser's included, as lists."""
    if not path.exists():
        return None
    tensors = []
    with zipfile.ZipFile(path) as archive:
        for name in ("policy.pth", "policy.optimizer.pth"):
            content = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            _collect(content, tensors)
    return tensors


def _collect(value, into):
    if isinstance(value, torch.Tensor):
        into.append(value.tolist())
    elif isinstance(value, dict):
        for entry in value.values():
            _collect(entry, into)
    elif isinstance(value, list | tuple):
        for entry in value:
            _collect(entry, into)
