"""Regularised evolution over tie vectors: each candidate is trained, and the best is reported.

    python -m agents.evolution --seed 1
    python -m agents.evolution --evaluations 40 --budget 100

Real et al. 2019 (Regularized Evolution for Image Classifier Architecture Search, algorithm 1):
a population of tie vectors; the best of a random sample has a child with one mutation, and the
oldest dies. A candidate is judged by a whole training run under its tie vector. The best one ever
found is then trained anew with another seed, which is the run that is recorded; the iterations of
the search are `extra_iterations` in summary.json, and its history is search.jsonl. The neural
architecture search that an agent has to beat: it finds a fixed pattern, at many times the price.
With env.tie-parts=attention+mlp a candidate has a tie vector for each part. It holds from the first
iteration on, so nothing is ever frozen.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tiegym import parts
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.policies.fixed import FixedTies
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import Journal
from tiegym.runs.json_files import append_line, plain
from tiegym.runs.options import RunOptions
from tiegym.runs.program import begin_run, open_run, run_policy, run_program
from tiegym.runs.progress import Progress
from tiegym.runs.regular_files import open_to_write
from tiegym.runs.same_run import check_corpus
from tiegym.ties import Ties
from tiegym.training.trainer import Trainer

PATIENCE = 200
"""Children in a row that were all known already, after which a search ends: there are only as
many different sharings as set partitions of the layers, 15 with 4 layers."""


@dataclass(frozen=True)
class Options(RunOptions):
    """Search for a tie vector by regularised evolution, then train under the best."""

    population: int = 8
    """Tie vectors alive at a time; the first ones are random."""
    sample: int = 3
    """Of these, how many are drawn at a time; the best of them has a child."""
    evaluations: int = 24
    """Training runs of the search, the first population's included."""
    budget: int | None = None
    """Training iterations of each of these; None is env.max-iters."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        for name in ("population", "sample", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"budget={self.budget} must be at least 1 iteration")
        if self.sample > self.population:
            raise ValueError(
                f"sample={self.sample} is drawn from the population of {self.population}: it can't "
                "be larger"
            )


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
    options: Options,
    rng: np.random.Generator,
    log: Callable[[Candidate], None] = lambda candidate: None,
    n_parts: int = 1,
) -> Candidate:
    """Regularised evolution; returns the best candidate ever found.

    Tie vectors with equal roots share weights in the same way, so `cost` is called once for all
    of them; the others join the population at no cost.

    Args:
        cost: What to minimise. Depends on the roots only.
        n_layer: Layers L.
        options: Sizes of the population, the sample and the search.
        rng: All draws come from here.
        log: Called with each candidate.
        n_parts: Parts of a layer that share weights apart from each other.
    """
    costs: dict[tuple[int, ...], float] = {}
    population: deque[Candidate] = deque(maxlen=options.population)  # a birth drops the oldest
    best: Candidate | None = None
    known_in_a_row = 0
    for number in count():
        if number < options.population:
            parent, ties = None, parts.sample(n_layer, n_parts, rng)
        else:
            drawn = rng.choice(options.population, options.sample, replace=False)
            parent = min((population[k] for k in drawn), key=_rank)
            ties = mutate(np.array(parent.ties), rng, n_layer)
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
        best = child if best is None else min(best, child, key=_rank)
        known_in_a_row = known_in_a_row + 1 if known else 0
        if len(costs) == options.evaluations or known_in_a_row == PATIENCE:
            break
    assert best is not None
    return best


def _rank(candidate: Candidate) -> tuple[float, int]:
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


class TrainingRuns:
    """The cost of a tie vector: the validation loss after a whole training run under it.

    In nats, plus the price of its independent layers where the environment's reward has one. All
    runs have the same initial weights, batches and validation set, so that candidates differ by
    their ties alone. The test split is never read.

    Args:
        config: Of the environment.
        budget: Iterations of a run.
        seed: Of all runs.
        progress: Called with the number of iterations that have been run; may raise.
    """

    def __init__(
        self, config: TieConfig, budget: int, seed: int, progress: Callable[[int], Any]
    ) -> None:
        """Loads the corpus.

        Raises:
            InputError: If it can't be read, or is too small.
        """
        # A schedule of the learning rate ends with the candidate's budget.
        self.config = dataclasses.replace(config, max_iters=budget)
        self.budget, self.seed, self.progress = budget, seed, progress
        try:
            corpus = load_corpus(config.corpus, config.tokenizer)
            self.trainer = Trainer(self.config, corpus)
        except (OSError, ValueError) as error:
            raise InputError(str(error)) from error
        self.sha256 = corpus.sha256
        """Of the text."""
        self.iterations = 0
        """Run so far, over all candidates."""

    def __call__(self, ties: Ties) -> float:
        """Trains from scratch; `divergence_loss` stands for a run that diverged."""
        self.trainer.reset(self.seed, ties)
        loss, left = self.config.divergence_loss, self.budget
        while left > 0:
            iterations = min(self.config.iters_per_step, left)
            losses = self.trainer.train(iterations, self.budget - left)
            left -= iterations
            self.iterations += iterations
            self.progress(iterations)
            if not bool((losses <= self.config.divergence_loss).all()):  # also if not a number
                break
        else:
            final = self.trainer.validation_loss().item()
            loss = final if final <= loss else loss
        share = parts.n_independent(ties, self.config.n_layer) / len(ties)
        return loss + self.config.param_cost * share  # zero but for rewards with a price


def search(options: Options, journal: Journal) -> tuple[Candidate, int]:
    """Searches; returns the best candidate and the iterations it took.

    Args:
        options: Of the program.
        journal: Of the run. It keeps the costs, so that a resumed search pays for each of them
            once; its folder gets search.jsonl, a line for each candidate as soon as it is known.
    """
    rng = np.random.default_rng((options.seed, 1))  # a stream apart from the environment's
    budget = options.env.max_iters if options.budget is None else options.budget
    expected = options.evaluations * budget
    with (
        closing(Progress(expected, "evolution: search", options.quiet)) as progress,
        open_to_write(journal.folder / "search.jsonl", "w") as file,
    ):
        figures = ""

        def show(iterations: int) -> None:
            progress.update(progress.done + iterations, figures)
            journal.stop()

        runs = TrainingRuns(options.env, budget, int(rng.integers(2**48)), show)
        check_corpus(journal.folder, options.env.corpus, runs.sha256)
        total = 0

        def cost(ties: Ties) -> float:
            nonlocal total

            def judged() -> tuple[float, int]:
                before = runs.iterations
                return runs(ties), runs.iterations - before

            value, iterations = journal.value(judged)
            total += iterations
            progress.update(total, figures)  # what the journal knew was never run here
            return float(value)

        def log(candidate: Candidate) -> None:
            nonlocal figures
            append_line(file, plain(candidate))
            figures = f"candidate {candidate.number}, cost {candidate.cost:.4f}"

        return evolve(cost, options.env.n_layer, options, rng, log, options.env.n_parts), total


def train(options: Options) -> Path:
    """Searches, then trains under the best tie vector; returns the run folder."""
    with closing(begin_run(options, "evolution")) as journal:
        best, iterations = search(options, journal)
        env_config = dataclasses.replace(options.env, initial_ties=best.ties)
        found = dataclasses.replace(options, env=env_config)
        with open_run(found, "evolution", journal, protocol="pretrained", found=best) as env:
            env.note(extra_iterations=iterations)
            policy = FixedTies(np.array(best.ties), env.action_space)
            run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
