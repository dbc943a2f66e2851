"""What a record keeps of one episode while it goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tiegym.runs.folder import Row
from tiegym.runs.json_files import finite


@dataclass
class EpisodeFigures:
    """Running figures of one episode."""

    number: int
    """0, 1, ... of all episodes of the run."""
    seed: int | None = None
    """Of the reset that began it."""
    steps: int = 0
    iteration: int = 0
    """Training iterations so far."""
    total_reward: float = 0.0
    training_seconds: float | None = 0.0
    """Without evaluation; None where the environment doesn't measure it."""
    begin: float | None = None
    """`time.perf_counter()` when its first step began."""
    ties: list[list[int]] = field(default_factory=list)
    """After each step; for the film."""
    iterations: list[int] = field(default_factory=list)
    """After each step; for the film."""

    def add(self, row: Row, reward: float) -> None:
        """Adds a step.

        Args:
            row: Of the step.
            reward: Of the step, as the environment gave it: finite or not.
        """
        iteration, seconds = int(row["iteration"]), row.get("seconds_per_iteration")
        self.steps += 1
        self.total_reward += reward
        if seconds is None:
            self.training_seconds = None
        elif self.training_seconds is not None:
            self.training_seconds += seconds * (iteration - self.iteration)
        self.iteration = iteration
        if "ties" in row:
            self.ties.append(row["ties"])
            self.iterations.append(iteration)

    def figures(self) -> dict[str, Any]:
        """Those that a summary has of the episode by itself."""
        per_iteration = None
        if self.training_seconds is not None and self.iteration > 0:
            per_iteration = self.training_seconds / self.iteration
        return {
            "episode": self.number,
            "seed": self.seed,
            "steps": self.steps,
            "return": finite(self.total_reward),
            "seconds": 0.0 if self.begin is None else time.perf_counter() - self.begin,
            "seconds_per_iteration": per_iteration,
        }
