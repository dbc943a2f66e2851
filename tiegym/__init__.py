"""tiegym: a Gymnasium environment in which an agent decides which transformer layers share weights.

Importing it registers the environments of `ENVIRONMENTS` and nothing more: PyTorch is imported
when an environment is built. Gymnasium has no plug-ins, so import tiegym before
``gymnasium.make("TieEnv-v0")``, or write ``gymnasium.make("tiegym:TieEnv-v0")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

from tiegym.config import PAPER, TieConfig

if TYPE_CHECKING:
    from tiegym.env import TieEnv
    from tiegym.episode import Snapshot
    from tiegym.population import TiePopulation
    from tiegym.runs.recorder import RecordRun, read_run
    from tiegym.transformer.generation import generate
    from tiegym.transformer.model_file import load_model, load_tokenizer
    from tiegym.vec_env import as_vec_env
    from tiegym.wrappers import MaskInObservation

__version__ = "0.2.0"

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "TieEnv-v0": {},
    "TieEnvFlat-v0": {},
    "TieEnvPaper-v0": PAPER,
}
"""Each registered id with the arguments in which it differs from `TieConfig`'s defaults."""

_ENTRY_POINTS = {"TieEnvFlat-v0": "tiegym.flat_env:FlatTieEnv"}
"""The ids whose environment isn't `TieEnv` itself."""

_LAZY = {
    "Snapshot": "tiegym.episode",
    "MaskInObservation": "tiegym.wrappers",
    "TieEnv": "tiegym.env",
    "TiePopulation": "tiegym.population",
    "as_vec_env": "tiegym.vec_env",
    "generate": "tiegym.transformer.generation",
    "load_model": "tiegym.transformer.model_file",
    "load_tokenizer": "tiegym.transformer.model_file",
    "RecordRun": "tiegym.runs.recorder",
    "read_run": "tiegym.runs.recorder",
}

__all__ = [
    "ENVIRONMENTS",
    "PAPER",
    "MaskInObservation",
    "RecordRun",
    "Snapshot",
    "TieConfig",
    "TieEnv",
    "TiePopulation",
    "as_vec_env",
    "generate",
    "load_model",
    "load_tokenizer",
    "read_run",
]

for _id, _arguments in ENVIRONMENTS.items():
    _entry_point = _ENTRY_POINTS.get(_id, "tiegym.env:TieEnv")
    gymnasium.register(_id, entry_point=_entry_point, kwargs=_arguments)
gymnasium.register(
    "TieBench-v0",
    entry_point="tiegym.bench.environment:TieBench",
    vector_entry_point="tiegym.bench.vector:TieBenchVector",
)
gymnasium.register("TiePopulation-v0", vector_entry_point="tiegym.population:TiePopulation")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tiegym' has no attribute {name!r}")
