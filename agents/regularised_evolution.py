"""Regularised evolution over tie vectors, whatever a candidate's cost is.

Real et al. 2019, *Regularized Evolution for Image Classifier Architecture Search*, algorithm 1.
What costs stand for is in `agents.evolution`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from tiegym import parts
from tiegym.ties import Ties

PATIENCE = 200
"""Children in a row that were all known already, after which a search ends: there are only as
many different sharings as set partitions of the layers, 15 with 4 layers."""


class Sizes(Protocol):
    """Of a search."""

    @property
    def population(self) -> int:
        """Tie vectors alive at a time."""

    @property
    def sample(self) -> int:
        """Of these, how many are drawn at a time."""

    @property
    def evaluations(self) -> int:
        """Costs that are asked for."""


@dataclass(frozen=True)
class Candidate:
    """A tie vector of the population, and a line of search.jsonl."""

    number: int
    """0, 1, ... in the order of birth; the last `population` of them are alive."""
    parent: int | None
    """Number of its parent; None in the first population."""
    ties: tuple[int, ...]
    n_independent: int
    cost: float
    """Nats, lower is better; see `TrainingRuns`."""
    known: bool
    """Whether the cost is that of an earlier candidate which shares weights in the same way."""


def evolve(
    cost: Callable[[Ties], float],
    n_layer: int,
    sizes: Sizes,
    rng: np.random.Generator,
    log: Callable[[Candidate], None] = lambda candidate: None,
    n_parts: int = 1,
    kinds: Sequence[str] | None = None,
) -> Candidate:
    """Regularised evolution; returns the best candidate ever found.

    Tie vectors with equal roots share weights in the same way, so `cost` is called once for all
    of them; the others join the population at no cost.

    Args:
        cost: What to minimise. Depends on the roots only.
        n_layer: Layers L.
        sizes: Of the population, the sample and the search.
        rng: All draws come from here.
        log: Called with each candidate.
        n_parts: Parts of a layer that share weights apart from each other.
        kinds: Of each unit, where only units of one kind may share weights: candidates are what
            `tiegym.parts.within_kinds` makes of what is drawn.
    """
    costs: dict[tuple[int, ...], float] = {}
    population: deque[Candidate] = deque(maxlen=sizes.population)  # a birth drops the oldest
    best: Candidate | None = None
    known_in_a_row = 0
    for number in count():
        if number < sizes.population:
            parent, ties = None, parts.sample(n_layer, n_parts, rng)
        else:
            drawn = rng.choice(sizes.population, sizes.sample, replace=False)
            parent = min((population[k] for k in drawn), key=rank)
            ties = mutate(np.array(parent.ties), rng, n_layer)
        if kinds is not None:
            ties = parts.within_kinds(ties, kinds, n_layer)
        roots = tuple(parts.roots(ties, n_layer).tolist())
        known = roots in costs
        if not known:
            costs[roots] = cost(ties)
        child = Candidate(
            number=number,
            parent=parent.number if parent else None,
            ties=tuple(ties.tolist()),
            n_independent=parts.n_independent(ties, n_layer),
            cost=costs[roots],
            known=known,
        )
        log(child)
        population.append(child)
        best = child if best is None else min(best, child, key=rank)
        known_in_a_row = known_in_a_row + 1 if known else 0
        if len(costs) == sizes.evaluations or known_in_a_row == PATIENCE:
            break
    assert best is not None
    return best


def rank(candidate: Candidate) -> tuple[float, int]:
    """By what candidates are ordered, the best first: cost, then independent layers."""
    return candidate.cost, candidate.n_independent


def mutate(ties: Ties, rng: np.random.Generator, n_layer: int | None = None) -> Ties:
    """A copy in which one layer, drawn uniformly, points at another target, drawn uniformly.

    Args:
        ties: The tie vector, (L,), or those of both parts, (2L,): then one part of one layer does.
        rng: All draws come from here.
        n_layer: Layers L; None is one for each of `ties`.
    """
    n_layer = len(ties) if n_layer is None else n_layer
    part, layer = divmod(int(rng.integers(len(ties) // n_layer * (n_layer - 1))), n_layer - 1)
    layer, unit = layer + 1, part * n_layer + layer + 1
    target = int(rng.integers(layer))  # one of the `layer` targets that it doesn't point at
    changed = ties.copy()
    changed[unit] = target + (target >= ties[unit])
    return changed
