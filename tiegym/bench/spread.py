"""How much of a difference is the choice, and how much the seed."""

from __future__ import annotations

from typing import NamedTuple

from tiegym.bench.table import Floats


class Spread(NamedTuple):
    """Standard deviations, in the unit of the figures, of the parts that a figure is the sum of.

    Attributes:
        choices: Of the choices' means, less what seeds put into them.
        seeds: Of the seeds' means: what is common to all choices with a seed.
        rest: What is left: a choice that is good with one seed and bad with another. It is the
            noise of a comparison that is paired by seed.
    """

    choices: float
    seeds: float
    rest: float


def spread(figures: Floats) -> Spread:
    """Splits figures into choice, seed and rest: two-way analysis of variance, random effects.

    Args:
        figures: A row for each seed, a column for each choice, (R, N); both at least 2.

    Raises:
        ValueError: If there are fewer.
    """
    seeds, choices = figures.shape
    if seeds < 2 or choices < 2:
        raise ValueError(f"{seeds} seeds of {choices} choices: a spread takes at least 2 of each")
    by_choice, by_seed = figures.mean(axis=0), figures.mean(axis=1)
    rest = figures - by_choice - by_seed[:, None] + figures.mean()
    noise = float((rest**2).sum()) / ((seeds - 1) * (choices - 1))
    of_choices = max(0.0, float(by_choice.var(ddof=1)) - noise / seeds)
    of_seeds = max(0.0, float(by_seed.var(ddof=1)) - noise / choices)
    return Spread(of_choices**0.5, of_seeds**0.5, noise**0.5)
