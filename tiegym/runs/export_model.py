"""Runs that leave their model: a wrapper that exports it when an episode ends.

What an exported model is, is in `tiegym.transformer.model_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium


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
