"""How often a verdict is wrong, and an interval beside the truth: measured on made-up runs.

    python -m baselines.error_rates

It prints the tables of docs/comparing.md. The losses of policies over seeds are drawn from known
distributions of standard deviation 1, independent between the policies and between seeds; in a
comparison runs of one seed have more in common, which makes differences easier to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from tiegym.analysis.intervals import interquartile_mean, iqm_interval
from tiegym.analysis.verdicts import hold_against

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


def verdict_rates(ours: Draw, theirs: Draw, n: int, effect: float, experiments: int) -> list[float]:
    """Shares of "better" and of "worse" where ours has a mean lower by `effect`.

    Args:
        ours: Draws our losses.
        theirs: Draws those of the other policy.
        n: Seeds of both, which are paired.
        effect: In standard deviations over seeds; with 0 each verdict is a false one.
        experiments: Made-up comparisons.
    """
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(experiments):
        a, b = ours(rng, n) - effect, theirs(rng, n)
        verdicts.append(hold_against(dict(enumerate(a)), dict(enumerate(b))).verdict)
    return [verdicts.count(word) / experiments for word in ("better", "worse")]


def iqm_coverage(draw: Draw, n: int, experiments: int) -> float:
    """Share of intervals of the interquartile mean over `n` seeds that hold its true value."""
    rng = np.random.default_rng(0)
    truth = interquartile_mean(draw(rng, 1_000_000))
    bounds = np.array([iqm_interval(draw(rng, n))[1:] for _ in range(experiments)])
    return float(np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])))


def main(experiments: int = 4000) -> None:
    """Prints the tables.

    Args:
        experiments: Made-up comparisons for each entry.
    """
    progress = Console(stderr=True)
    cases = [(name, n) for name in PAIRS for n in SEEDS]
    lines = []
    for name, n in track(cases, "verdicts", console=progress):
        rates = [verdict_rates(*PAIRS[name], n, effect, experiments) for effect in (0, 1, 2)]
        lines.append([name, n, *map(_percent, (sum(rates[0]), rates[1][0], rates[2][0]))])
    _show(("losses", "seeds", "false verdicts", "found: 1 s.d.", "found: 2 s.d."), lines)
    lines = []
    for n in track(SEEDS, "intervals", console=progress):
        lines.append([n, *(_percent(iqm_coverage(d, n, experiments)) for d in (normal, skewed))])
    _show(("seeds", "normal", "lognormal"), lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _show(headings: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    for line in (headings, ["---"] * len(headings), *lines):
        print("| " + " | ".join(map(str, line)) + " |")
    print()


if __name__ == "__main__":
    main()
