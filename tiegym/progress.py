"""A progress bar for whatever steps an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
from tqdm.auto import tqdm


class ShowProgress(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows a bar over environment steps with the perplexity and the independent layers.

    Args:
        env: Any TieEnv.
        total: Environment steps that will be taken.
        description: Stands before the bar.
        disable: Shows nothing, as is always so where the output is no terminal.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], total: int, description: str = "", disable: bool = False
    ) -> None:
        """Draws nothing before the first step."""
        super().__init__(env)
        self._arguments = {"total": total, "desc": description, "disable": disable or None}
        self._bar: tqdm[Any] | None = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then moves the bar."""
        if self._bar is None:
            self._bar = tqdm(unit="step", **self._arguments)
        result = self.env.step(action)
        info = result[4]
        self._bar.set_postfix_str(
            f"perplexity {info['perplexity']:.4g}, {info['n_independent']} independent",
            refresh=False,
        )
        self._bar.update()
        return result

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
        super().close()
