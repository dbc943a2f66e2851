"""Regularised evolution over tie vectors: each candidate is trained, and the best is reported.

    python -m agents.evolution --seed 1
    python -m agents.evolution --evaluations 40 --budget 100
    python -m agents.evolution --table runs/tables/tree-3x2-mine-owner.npz --total-steps 1000

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
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents.regularised_evolution import Candidate, evolve, rank
from agents.table_options import TableOptions, check_run
from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.bench.recorded import Recorded
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.begin import begin_run
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.journal import Journal
from tiegym.runs.json_files import append_line, plain
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.runs.progress import Progress
from tiegym.runs.record_checks import check_numbers
from tiegym.runs.regular_files import open_to_write
from tiegym.runs.same_run import check_corpus, check_weights
from tiegym.ties import Ties
from tiegym.training.load import load_data
from tiegym.training.trainer import Trainer


@dataclass(frozen=True)
class Options(TableOptions):
    """Search for a tie vector by regularised evolution, then train under the best."""

    population: int = 8
    """Tie vectors alive at a time; the first ones are random."""
    sample: int = 3
    """Of these, how many are drawn at a time; the best of them has a child."""
    evaluations: int = 24
    """Training runs of the search, the first population's included. With --table, where a candidate
    is judged by its recorded runs of all seeds of the split train, --total-steps says how many."""
    budget: int | None = None
    """Training iterations of each of these; None is env.max-iters. With --table it is that."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        if self.env.n_layer < 2:
            raise ValueError(
                f"env.n_layer={self.env.n_layer} must be at least 2: one has no choice"
            )
        for name in ("population", "sample", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.table is not None and (self.evaluations, self.budget) != (24, None):
            raise ValueError(
                f"evaluations={self.evaluations} and budget={self.budget} are of runs that train, "
                f"but table={self.table!r} has recorded ones, of whole length: give --total-steps"
            )
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"budget={self.budget} must be at least 1 iteration")
        if self.budget is not None and self.budget < self.env.warmup_iters:
            raise ValueError(
                f"budget={self.budget} must be at least env.warmup_iters={self.env.warmup_iters}: "
                "the learning rate of a candidate would never be the whole one"
            )
        if self.sample > self.population:
            raise ValueError(
                f"sample={self.sample} is drawn from the population of {self.population}: it can't "
                "be larger"
            )


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
        with as_input_errors():
            data = load_data(config)
            self.trainer = Trainer(self.config, data)
        self.sha256 = data.sha256
        """Of the data."""
        self.weights_sha256 = self.trainer.workload.weights_sha256
        """Of pretrained weights, if there are any."""
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
        source = options.env.initial_weights or options.env.model
        check_weights(journal.folder, source, runs.weights_sha256)
        total = 0

        def cost(ties: Ties) -> float:
            nonlocal total

            def judged() -> tuple[float, int]:
                before = runs.iterations
                return runs(ties), runs.iterations - before

            value, iterations = journal.value(judged, partial(check_numbers, count=2))
            total += iterations
            progress.update(total, figures)  # what the journal knew was never run here
            return float(value)

        def log(candidate: Candidate) -> None:
            nonlocal figures
            append_line(file, plain(candidate))
            figures = f"candidate {candidate.number}, cost {candidate.cost:.4f}"

        n_layer, n_parts = options.env.n_layer, options.env.n_parts
        kinds = runs.trainer.workload.kinds
        return evolve(cost, n_layer, options, rng, log, n_parts, kinds), total


def search_on_table(
    options: Options,
    leave_out: int | None = None,
    log: Callable[[Candidate], None] = lambda candidate: None,
) -> tuple[list[tuple[int, Candidate]], int]:
    """Searches among recorded runs, with no training.

    The cost of a candidate is the validation loss at the end of its recorded runs, the mean over
    all seeds of the split train, plus the price of its independent layers. It counts as the
    decisions of these runs; what is known already costs none.

    Args:
        options: Of the program, with a table; `table_steps` is the most decisions that are spent.
        leave_out: A recorded seed that isn't looked at.
        log: See `evolve`.

    Returns:
        Each best candidate so far, and the decisions that had been spent by then: the last one is
        the best of all. And the decisions that were spent in all: fewer than `table_steps` where
        they don't make up another candidate, or all that is drawn is known.

    Raises:
        ValueError: If the decisions don't suffice for one candidate.
    """
    assert options.table is not None
    recorded = Recorded(options.table, "train", options.env.reward, options.env.param_cost, {})
    if leave_out is not None:
        recorded.leave_out(leave_out)
    each = len(recorded.runs) * recorded.config.steps_per_episode
    if options.table_steps < each:
        raise InputError(
            f"total_steps={options.table_steps}: a candidate takes {each} decisions, those of its "
            f"{len(recorded.runs)} recorded runs; give at least as many"
        )
    final = recorded.table.arrays["fixed_val"][recorded.runs, :, -1].mean(axis=0, dtype=np.float64)
    found: list[tuple[int, Candidate]] = []
    spent = 0

    def cost(ties: Ties) -> float:
        nonlocal spent
        spent += each
        share = tie_vectors.n_independent(ties) / len(ties)
        return float(final[recorded.table.sharing_of(ties)]) + options.env.param_cost * share

    def look(candidate: Candidate) -> None:
        if not found or rank(candidate) < rank(found[-1][1]):
            found.append((spent, candidate))
        log(candidate)

    rng = np.random.default_rng((options.seed, 1))  # as in `search`
    sizes = dataclasses.replace(
        options, table=None, total_steps=None, evaluations=options.table_steps // each
    )
    evolve(cost, options.env.n_layer, sizes, rng, look)
    return found, spent


def train(options: Options) -> Path:
    """Searches, then trains under the best tie vector; returns the run folder."""
    if options.table is not None:
        return train_from_table(options)
    with closing(begin_run(options, "evolution")) as journal:
        best, iterations = search(options, journal)
        env_config = dataclasses.replace(options.env, initial_ties=best.ties)
        found = dataclasses.replace(options, env=env_config)
        with open_run(found, "evolution", journal, protocol="pretrained", found=best) as env:
            env.note(extra_iterations=iterations)
            policy = FixedTies(np.array(best.ties), env.action_space)
            run_policy(env, policy, options.seed, options.steps)
    return env.folder


def train_from_table(options: Options) -> Path:
    """Searches among recorded runs, then trains under the best tie vector; as `train`."""
    check_run(options)
    births: list[Candidate] = []
    history, spent = search_on_table(options, options.seed, births.append)
    best = history[-1][1]
    spec = {"protocol": "tabulated", "found": best, **options.table_facts}
    with closing(begin_run(options, "evolution")) as journal:
        with open_to_write(journal.folder / "search.jsonl", "w") as file:
            for candidate in births:
                append_line(file, plain(candidate))
        env_config = dataclasses.replace(options.env, initial_ties=best.ties)
        found = dataclasses.replace(options, env=env_config, table=None, total_steps=None)
        with open_run(found, "evolution", journal, **spec) as env:
            env.note(table_steps=spent, **options.table_facts)
            policy = FixedTies(np.array(best.ties), env.action_space)
            run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
