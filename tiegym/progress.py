"""The progress of a run: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import gymnasium
from tqdm.auto import tqdm

_LINES = 10  # in a run, where the output is no terminal


class ShowProgress(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the iterations of a run, its perplexity, independent layers and the time left.

    It goes to stderr: a bar on a terminal; elsewhere, such as in a file, a line each tenth of the
    run.

    Args:
        env: Any TieEnv.
        total: Environment steps that will be taken.
        description: Stands before the bar.
        disable: Shows nothing.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], total: int, description: str = "", disable: bool = False
    ) -> None:
        """Draws nothing before the first step."""
        super().__init__(env)
        self._steps, self._total_steps = 0, total
        self._description = description
        self._disable = disable
        config: Any = env.unwrapped.config  # type: ignore[attr-defined]
        episodes, steps = divmod(total, config.steps_per_episode)
        self._total = episodes * config.max_iters + steps * config.iters_per_step
        self._iterations = 0  # of all episodes
        self._iteration = 0  # of this one
        self._begin: float | None = None
        self._bar: tqdm[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets; what was done stays done."""
        self._iteration = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then moves the bar, or prints a line if one is due."""
        if self._begin is None:
            self._begin = time.monotonic()
            if not self._disable and sys.stderr.isatty():
                self._bar = tqdm(total=self._total, desc=self._description, unit="it")
        result = self.env.step(action)
        info = result[4]
        done = info["iteration"] - self._iteration
        self._iteration = info["iteration"]
        self._iterations += done
        self._steps += 1
        figures = f"perplexity {info['perplexity']:.4g}, {info['n_independent']} independent"
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(done)
        elif not self._disable and self._is_due():
            share = self._steps / self._total_steps
            left = (time.monotonic() - self._begin) * (1 - share) / share
            print(
                f"{self._description}: {self._iterations}/{self._total} iterations, {figures}, "
                f"{tqdm.format_interval(max(0, left))} left",
                file=sys.stderr,
                flush=True,
            )
        return result

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
        super().close()

    def _is_due(self) -> bool:
        tenths = [_LINES * steps // self._total_steps for steps in (self._steps - 1, self._steps)]
        return tenths[0] != tenths[1]
