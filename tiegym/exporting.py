"""The trained transformer in a run folder: writing it, whatever steps the environment, and finding.

What is in the file is up to `tiegym.files`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

MODEL_FILE = "model.safetensors"
"""The exported model in a run folder."""


class ExportModel(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Exports the model at the end of each episode; that of a later one takes its place.

    The end is the moment for it: whatever steps an environment may reset it at once.

    Args:
        env: A TieEnv, wrapped or not.
        path: Where to.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], path: str | Path) -> None:
        super().__init__(env)
        self.path = Path(path)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; after the last step of an episode, also exports."""
        result = self.env.step(action)
        if result[2] or result[3]:
            self.env.unwrapped.export(self.path)  # type: ignore[attr-defined]
        return result


def find_model(path: Path) -> Path:
    """The file with the exported model of a run.

    Args:
        path: The run folder, or the file itself.

    Raises:
        FileNotFoundError: If there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such run folder or file")
    if not (path / MODEL_FILE).is_file():
        raise FileNotFoundError(
            f"{path} holds no {MODEL_FILE}: a run keeps its model only if its program is run "
            "with --export, and not before the end of its first episode"
        )
    return path / MODEL_FILE
