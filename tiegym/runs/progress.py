"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, such as in a file."""

from __future__ import annotations

import sys
import time
from typing import Any

import gymnasium
from tqdm.auto import tqdm

from tiegym.runs.messages import say

_LINES = 10  # of a whole work, where the output is no terminal


class Progress:
    """Shows how many training iterations of some work are done, and the time left.

    Args:
        total: Iterations of the whole work.
        description: Stands before them.
        disable: Shows nothing.
        done: Iterations that were done before.
        unit: What is counted, if it isn't iterations.
    """

    def __init__(
        self,
        total: int,
        description: str = "",
        disable: bool = False,
        done: int = 0,
        unit: str = "iterations",
    ) -> None:
        """Draws an empty bar on a terminal; lines come with the first updates."""
        self.done = done
        self._total, self._description, self._disable = total, description, disable
        self._unit = unit
        self._before, self._begin = done, time.monotonic()
        self._bar: tqdm[Any] | None = None
        # A daemon has no stderr.
        if not disable and sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=description,
                unit="it" if unit == "iterations" else f" {unit}",
                smoothing=0.05,
            )

    def update(self, done: int, figures: str = "") -> None:
        """Moves the bar, or prints a line if another tenth of the work is done.

        Args:
            done: Iterations done by now, of all.
            figures: What else there is to say.
        """
        tenths = [_LINES * iterations // self._total for iterations in (self.done, done)]
        if self._bar is not None:
            self._move_bar(done, figures)
        elif not self._disable and tenths[0] != tenths[1]:
            seconds = (time.monotonic() - self._begin) / (done - self._before)  # per iteration
            left = tqdm.format_interval(max(0, self._total - done) * seconds)
            parts = [f"{done}/{self._total} {self._unit}", *([figures] if figures else ())]
            line = f"{self._description}: {', '.join(parts)}, {left} left"
            # A reader that has gone, or a full disk under a log, is no reason to end the work.
            self._disable = not say(line, sys.stderr)
        self.done = done

    def _move_bar(self, done: int, figures: str) -> None:
        assert self._bar is not None
        try:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(done - self.done)
        except OSError:  # its terminal has gone
            self._bar.disable, self._bar, self._disable = True, None, True

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class ShowProgress(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the iterations of a run, its perplexity, independent layers and the time left.

    Args:
        env: Any TieEnv.
        steps: Environment steps that will be taken.
        description: Stands before the iterations.
        disable: Shows nothing.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], steps: int, description: str = "", disable: bool = False
    ) -> None:
        """Shows nothing before the first step."""
        super().__init__(env)
        config: Any = env.unwrapped.config  # type: ignore[attr-defined]
        self._arguments = config.iterations(steps), description, disable
        self._iteration = 0  # of this episode
        self._progress: Progress | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets; what was done stays done."""
        self._iteration = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then shows it."""
        if self._progress is None:
            self._progress = Progress(*self._arguments)
        result = self.env.step(action)
        info = result[4]
        done = self._progress.done + info["iteration"] - self._iteration
        self._iteration = info["iteration"]
        self._progress.update(
            done, f"perplexity {info['perplexity']:.4g}, {info['n_independent']} independent"
        )
        return result

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._progress is not None:
            self._progress.close()
        super().close()
