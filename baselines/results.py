"""The evidence of docs/results.md: every comparison in it, run and written by one command.

    python -m baselines.results --wikitext data/wikitext-2

Runs go into `runs_dir` and are kept: cut off, the command goes on where it stopped. The tables are
put into the page between its markers, tables and pictures also into docs/results/. What was found
stands around the markers, written by hand.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from baselines.arms import Arm, parse_arm, run_missing, stoppable
from baselines.compare import run_arms, show, write
from tiegym.analysis import rows as report
from tiegym.atomic_write import write_bytes
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

LEARNING = ("qlearning", "dqn", "ppo", "maskable_ppo", "recurrent_ppo", "pairwise")
FIXED = (
    *("independent", "tied", "cycle:2", "cycle:3", "sequence:2", "sequence:3"),
    *("cycle-rev:2", "sandwich", "middle-cycle:2"),
)
SCHEDULES = tuple(
    f"schedules --schedule {name}" for name in ("share-then-unshare", "progressive-split")
)
SMALL = TieConfig(n_embd=48, block_size=48, max_iters=400)
"""Small enough for hundreds of runs on two cores."""


@dataclass(frozen=True)
class Options:
    """Make all results of docs/results.md."""

    wikitext: Path | None = None
    """Folder with WikiText-2 as train.*, valid.* and test.*; None leaves its studies out."""
    only: tuple[str, ...] = ()
    """Names of studies; none are all."""
    seeds: int = 5
    """Runs of each policy: seeds 0, 1, ..."""
    pretrain_runs: int = 4
    """Runs over which an agent learns in the pretrained protocol."""
    runs_dir: Path = Path("runs/results")
    """Where run folders go."""
    page: Path = Path("docs/results.md")
    """Gets the tables; pictures go into a folder of the same name beside it."""
    workers: int | None = None
    """Runs at a time; None is one for every core, or one with a GPU."""
    quiet: bool = False
    """Show no progress."""
    env: TieConfig = field(default_factory=lambda: SMALL)
    """The environment, but for its corpus and number of layers."""


@dataclass(frozen=True)
class Study:
    """One comparison, and where it stands on the page."""

    name: str
    corpus: str
    n_layer: int
    policies: tuple[str, ...]
    retrained: str | None = None
    """Policy whose final ties are trained from scratch, each seed's with the same seed."""
    transferred: str | None = None
    """Study whose pretrained pairwise agents decide here without learning, each seed's with the
    same seed."""

    @property
    def setting(self) -> str:
        """Studies of the same setting share their runs."""
        return f"{self.corpus}-{self.n_layer}"


def studies(pretrain_runs: int) -> list[Study]:
    """All of them, in the order in which they are run."""
    pretrained = tuple(f"{agent} --pretrain-runs {pretrain_runs}" for agent in LEARNING)
    rewards = ("neg_log_ppl", "neg_ppl", "delta_log_ppl", "ppl_params --env.param-cost 0.2")
    return [
        Study(
            "main",
            "stdlib",
            6,
            (
                *LEARNING,
                *pretrained,
                *("lookahead", "evolution --evaluations 12", "random"),
                *FIXED,
                *SCHEDULES,
            ),
            retrained="qlearning",
        ),
        Study("wikitext-6", "wikitext", 6, (*LEARNING, "random", *FIXED, *SCHEDULES)),
        Study(
            "rewards",
            "stdlib",
            6,
            (
                *(f"{a} --env.reward {r}" for a in ("qlearning", "dqn") for r in rewards),
                *("random", "independent"),
            ),
        ),
        Study(
            "clip",
            "stdlib",
            6,
            (
                "qlearning --env.reward neg_ppl",
                "qlearning --env.reward neg_ppl --reward-clip 10",
                "qlearning --env.reward neg_ppl --reward-clip 10 --bootstrap same-layer",
                "random",
            ),
        ),
        Study(
            "tie-grad",
            "stdlib",
            6,
            tuple(
                f"{policy}{gradient}"
                for policy in ("tied", "cycle:2", "sequence:2", "random", "qlearning")
                for gradient in ("", " --env.tie-grad sum")
            ),
        ),
        Study(
            "stdlib-12",
            "stdlib",
            12,
            (*LEARNING, "random", *FIXED, *SCHEDULES),
            transferred="main",
        ),
        Study("wikitext-12", "wikitext", 12, (*LEARNING, "random", *FIXED, *SCHEDULES)),
    ]


def run_study(study: Study, options: Options) -> list[report.Row]:
    """Runs what is missing of a study, and returns its rows."""
    seeds = range(options.seeds)
    folder = options.runs_dir / study.setting
    env = env_of(study, options)
    arms = [parse_arm(policy, env) for policy in study.policies]
    rows = run_arms(arms, seeds, folder, options.workers, options.quiet)
    for label, command, source, there in _continued(study, env, options):
        runs = []
        for seed in seeds:
            arm = parse_arm(f"{command} {source.folder(there, seed)}", env)
            run_missing([arm], [seed], folder, 1, options.quiet)
            runs.append(read_run(arm.folder(folder, seed)))
        rows.append(report.make_row(label, runs))
    return rows


def _continued(
    study: Study, env: TieConfig, options: Options
) -> Iterator[tuple[str, str, Arm, Path]]:
    """Policies of which each run begins with what another policy's run of the same seed found.

    Yields:
        A label, a command that lacks the run that it begins with, and that run's arm and place.
    """
    if study.transferred is not None:
        (source,) = (s for s in studies(options.pretrain_runs) if s.name == study.transferred)
        trained = parse_arm(
            f"pairwise --pretrain-runs {options.pretrain_runs}", env_of(source, options)
        )
        label = f"pairwise, trained at {source.n_layer} layers"
        yield label, "pairwise --source", trained, options.runs_dir / source.setting
    if study.retrained is not None:
        found = parse_arm(study.retrained, env)
        label = f"retrain, ties of {study.retrained}"
        yield label, "retrain --run", found, options.runs_dir / study.setting


def env_of(study: Study, options: Options) -> TieConfig:
    """The environment of a study."""
    corpus = str(options.wikitext) if study.corpus == "wikitext" else study.corpus
    return dataclasses.replace(options.env, corpus=corpus, n_layer=study.n_layer)


def put_between_markers(page: str, name: str, text: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- end -->`.

    Raises:
        ValueError: If the page has no such markers.
    """
    pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
    result, count = re.subn(
        pattern, lambda m: f"{m[1]}\n{text}\n{m[2]}", page, count=1, flags=re.DOTALL
    )
    if not count:
        raise ValueError(
            f"the page has no place for {name!r}: put '<!-- {name} -->' and '<!-- end -->' on "
            "lines of their own where the table belongs"
        )
    return result


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = tyro.cli(Options, args=args, description=__doc__)
    if options.seeds < 1:
        raise SystemExit(f"seeds={options.seeds} must be at least 1")
    every = studies(options.pretrain_runs)
    if unknown := set(options.only) - {study.name for study in every}:
        names = ", ".join(study.name for study in every)
        raise SystemExit(f"only={sorted(unknown)} is unknown: choose from {names}")
    for study in every:
        if options.only and study.name not in options.only:
            continue
        if study.corpus == "wikitext" and options.wikitext is None:
            continue
        with stoppable():
            rows = run_study(study, options)
        folder = options.page.with_suffix("") / study.name
        write(rows, folder)
        show(rows, folder)
        page = options.page.read_text()
        table = (folder / "comparison.md").read_text()
        write_bytes(options.page, put_between_markers(page, study.name, table).encode())


if __name__ == "__main__":
    main()
