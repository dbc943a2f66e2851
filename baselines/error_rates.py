"""How often a verdict is wrong, and an interval beside the truth: measured on made-up runs.

    python -m baselines.error_rates

It prints the tables of docs/comparing.md. The losses of policies over seeds are drawn from known
distributions of standard deviation 1, independent between seeds. Runs of one seed have more in
common, which makes differences easier to see: the first table has losses that are independent
between the policies, and such that are correlated over the seeds. The second one compares a policy
with the best of several patterns that are no better. The last one is about the interval of the IQM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from tiegym.analysis.intervals import interquartile_mean, iqm_interval, paired_difference
from tiegym.analysis.markdown import markdown_table
from tiegym.analysis.verdicts import verdict
from tiegym.runs.commands import read_command_line

Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]
"""So many losses of mean 0 and standard deviation 1."""

SEEDS = (4, 5, 8, 10)


def normal(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """As symmetric as losses can be."""
    return rng.normal(size=n)


def skewed(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Lognormal: now and then a run that is much worse than the others."""
    return np.asarray((rng.lognormal(size=n) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e))


PAIRS: dict[str, tuple[Draw, Draw]] = {
    "both normal": (normal, normal),
    "both lognormal": (skewed, skewed),
    "lognormal against normal": (skewed, normal),
}


def verdict_rates(
    ours: Draw,
    theirs: Draw,
    n: int,
    effect: float,
    experiments: int,
    correlation: float = 0.0,
) -> list[float]:
    """Shares of "better" and of "worse" where ours has a mean lower by `effect`.

    Args:
        ours: Draws our losses.
        theirs: Draws those of the other policy.
        n: Seeds of both, which are paired.
        effect: In standard deviations over seeds; with 0 each verdict is a false one.
        experiments: Made-up comparisons.
        correlation: Of the losses of the two policies over seeds.
    """
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(experiments):
        common = np.sqrt(correlation) * normal(rng, n) if correlation else 0.0
        own = np.sqrt(1 - correlation)
        a = common + own * ours(rng, n) - effect
        b = common + own * theirs(rng, n)
        verdicts.append(verdict(paired_difference(a, b), n))
    return [verdicts.count(word) / experiments for word in ("better", "worse")]


def best_of_several_rates(patterns: int, n: int, experiments: int) -> list[float]:
    """Shares of "better" and of "worse" against the best of some patterns that equal the policy.

    The losses of all are correlated at 0.8, and the best is the one with the lowest mean loss on
    the very runs: validation and test loss of a run are nearly the same.

    Args:
        patterns: How many the best is chosen from.
        n: Seeds, which are paired.
        experiments: Made-up comparisons.
    """
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(experiments):
        losses = np.sqrt(0.8) * normal(rng, n) + np.sqrt(0.2) * rng.normal(size=(patterns + 1, n))
        best = 1 + int(losses[1:].mean(axis=1).argmin())
        difference = paired_difference(losses[0], losses[best], patterns)
        verdicts.append(verdict(difference, n))
    return [verdicts.count(word) / experiments for word in ("better", "worse")]


def iqm_coverage(draw: Draw, n: int, experiments: int) -> float:
    """Share of intervals of the interquartile mean over `n` seeds that hold its true value."""
    rng = np.random.default_rng(0)
    truth = interquartile_mean(draw(rng, 1_000_000))
    bounds = np.array([iqm_interval(draw(rng, n))[1:] for _ in range(experiments)])
    return float(np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])))


def error_rates(experiments: int = 4000) -> None:
    """Print the tables of docs/comparing.md.

    Args:
        experiments: Made-up comparisons for each entry.
    """
    progress = Console(stderr=True)
    cases = [(name, n, 0.0) for name in PAIRS for n in SEEDS]
    cases += [("both normal", n, 0.8) for n in SEEDS]
    lines: list[list[object]] = []
    for name, n, correlation in track(cases, "verdicts", console=progress):
        rates = [
            verdict_rates(*PAIRS[name], n, effect, experiments, correlation) for effect in (0, 1, 2)
        ]
        shares = (sum(rates[0]), rates[1][0], rates[2][0])
        lines.append([name, f"{correlation:g}", n, *map(_percent, shares)])
    _show(
        (
            *("losses", "correlation", "seeds"),
            *("false verdicts", "found: 1 s.d.", "found: 2 s.d."),
        ),
        lines,
    )
    lines = []
    for patterns in track((1, 4, 12), "best of several", console=progress):
        for n in SEEDS:
            rates_of_two = best_of_several_rates(patterns, n, experiments)
            lines.append([patterns, n, *map(_percent, rates_of_two)])
    _show(("patterns", "seeds", "falsely better", "falsely worse"), lines)
    lines = []
    for n in track(SEEDS, "intervals", console=progress):
        lines.append([n, *(_percent(iqm_coverage(d, n, experiments)) for d in (normal, skewed))])
    _show(("seeds", "normal", "lognormal"), lines)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    read_command_line(error_rates, "baselines.error_rates", args=args)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _show(headings: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    print(markdown_table(headings, lines))


if __name__ == "__main__":
    main()
