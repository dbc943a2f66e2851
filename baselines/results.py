"""The evidence of docs/results.md: every comparison in it, run and written by one command.

    python -m baselines.results --wikitext data/wikitext-2
    python -m baselines.results --study depth main sharing models related

Runs go into `runs_dir` and are kept: cut off, the command goes on where it stopped. The tables are
put into the page between its markers, tables and pictures also into docs/results/. What was found
stands around the markers, written by hand.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines import cost_of_changing, cost_table, depth_table, primary_table, related
from baselines.archive import archive
from baselines.compare import run_policies, tune, tuning, with_learning_rate
from baselines.continued import Continued
from baselines.page import check_page, put_on_page
from baselines.policies import ComparedPolicy, parse_policy
from baselines.running import pairs_of
from baselines.running_options import RunningOptions
from baselines.settings import SMALL
from baselines.studies import PRETRAIN_RUNS, WIKITEXT, Study, studies
from tiegym.analysis import forms
from tiegym.analysis.comparison import judge, show, write
from tiegym.analysis.find import TUNING_SEEDS
from tiegym.analysis.rows import Row
from tiegym.config import TieConfig
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.messages import say
from tiegym.runs.processes import long_work

SHARING = "sharing"
"""The study that compares no policies, but what changing ties costs them."""
RELATED = "related"
"""The study of the neighbours of layer tying, with a table and a setting of its own."""
ARCHIVE = "runs.tar.xz"
"""The run folders of a main study."""


@dataclass(frozen=True)
class Options(RunningOptions):
    """Make all results of docs/results.md."""

    wikitext: Path | None = None
    """Folder with WikiText-2 as train.*, valid.* and test.*; None leaves its studies out."""
    study: tuple[str, ...] = ()
    """Names of studies or of groups of them: depth, main, transfer, models; none are all."""
    seeds: int | None = None
    """Runs of each policy: seeds 0, 1, ...; None is 10, and 5 of the studies of models; sharing
    takes at least 8."""
    runs_dir: Path = Path("runs/results")
    """Where run folders go."""
    page: Path = Path("docs/results.md")
    """Gets the tables; pictures go into a folder of the same name beside it."""
    device: str = "cpu"
    """Where transformers train. The settings are in `baselines.settings`."""


def run_study(study: Study, options: Options) -> list[Row]:
    """Runs what is missing of a study, and returns its rows; raises as `run_missing`."""
    seeds = _seeds(study, options)
    there = _place(study, options)
    policies = policies_of(study, options)
    rows = run_policies(policies, seeds, there)
    env = env_of(study, options)
    for each in _continued(study, policies, options):
        if study.rates or study.rates_of:
            env = dataclasses.replace(env, learning_rate=each.source.options.env.learning_rate)
        rows.append(each.run(env, seeds, there))
    return rows


def _seeds(study: Study, options: Options) -> range:
    return range(options.seeds or study.seeds)


def _place(study: Study, options: Options) -> Options:
    return dataclasses.replace(options, runs_dir=options.runs_dir / study.setting)


def policies_of(study: Study, options: Options) -> list[ComparedPolicy]:
    """The policies of a study, each with the learning rate that is chosen for it."""
    policies = _untuned(study, options)
    if study.rates_of is not None:
        alike = dataclasses.replace(_named(study.rates_of), policies=study.policies)
        found = [p.options.env.learning_rate for p in policies_of(alike, options)]
        return [with_learning_rate(p, rate) for p, rate in zip(policies, found, strict=True)]
    return tune(policies, study.rates, _place(study, options)) if study.rates else policies


def _untuned(study: Study, options: Options) -> list[ComparedPolicy]:
    env = env_of(study, options)
    return [parse_policy(text, env) for text in study.policies]


def _named(name: str) -> Study:
    (found,) = (study for study in studies() if study.name == name)
    return found


def _continued(
    study: Study, policies: Sequence[ComparedPolicy], options: Options
) -> Iterator[Continued]:
    if study.transferred is not None:
        from agents.saved_agents import AGENT_FILE  # and Stable-Baselines3 with it

        source = _named(study.transferred)
        wanted = f"pairwise --pretrain-runs {PRETRAIN_RUNS}"
        only = dataclasses.replace(source, policies=(wanted,))
        (trained,) = policies_of(only, options)
        trained = dataclasses.replace(trained, needed=(AGENT_FILE,))  # archives hold no agents
        place = _place(source, options)
        run_policies([trained], _seeds(study, options), place)
        label = f"pairwise, trained at {source.env.n_layer} layers of {source.corpus}"
        yield Continued(label, "pairwise --source", trained, place.runs_dir)
    if study.retrained is not None and len(_seeds(study, options)) > 1:  # each by the next one's
        found = policies[study.policies.index(study.retrained)]
        label = f"retrain, ties of {study.retrained}"
        here = _place(study, options).runs_dir
        yield Continued(label, "retrain --run", found, here, of_the_next=True)


def env_of(study: Study, options: Options) -> TieConfig:
    """The environment of a study."""
    env = study.env
    corpus = str(options.wikitext) if study.corpus == WIKITEXT else env.corpus
    return dataclasses.replace(env, device=options.device, corpus=corpus)


def chosen(options: Options) -> list[Study]:
    """The studies that are asked for.

    Raises:
        InputError: If one is unknown, or there is nothing to do.
    """
    if options.seeds is not None and options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be at least 1")
    every = studies()
    groups = {
        group: [study.name for study in every if study.group == group]
        for group in dict.fromkeys(study.group for study in every if study.group)
    }
    names = [*(study.name for study in every), *groups, SHARING, RELATED]
    asked = [n for name in options.study for n in groups.get(name, [name])]
    if unknown := set(asked) - set(names):
        raise InputError(f"study={sorted(unknown)} is unknown: choose from {', '.join(names)}")
    least = cost_of_changing.LEAST_SEEDS
    if SHARING in options.study and (options.seeds or least) < least:
        raise InputError(f"seeds={options.seeds} must be at least {least} in the study {SHARING}")
    wanted = [s for s in every if not asked or s.name in asked]
    missing = [s.name for s in wanted if s.corpus == WIKITEXT and options.wikitext is None]
    if options.study and missing:
        raise InputError(f"{', '.join(missing)} needs --wikitext, the folder of its text")
    wanted = [study for study in wanted if study.name not in missing]
    others = [name for name in (SHARING, RELATED) if not asked or name in asked]
    check_page([*(study.name for study in wanted), *others], options.page)
    with as_input_errors():
        dataclasses.replace(SMALL, device=options.device)
        for study in wanted:
            env_of(study, options)
    return wanted


def put_into_page(study: Study, rows: Sequence[Row], options: Options) -> None:
    """Writes what a study has shown: table, pictures, and its runs where they matter most."""
    judged = judge(rows)
    folder = options.page.with_suffix("") / study.name
    write(judged, folder)
    show(judged, folder)
    if study.group == "depth":
        table = depth_table.markdown(judged.rows)
    else:
        table = forms.markdown(judged.table, judged.setting)
        if study.group != "models":
            picture = folder / "primary.png"
            at = f"{options.page.stem}/{study.name}/{picture.name}"
            drawn = primary_table.draw(judged, picture)
            shown = f"\n[![What learned policies are worth]({at})]({at})\n" if drawn else ""
            table = f"{primary_table.markdown(judged)}{shown}\nAll policies: {table}"
    if study.group == "main":
        runs = [run.folder for row in rows for run in row.runs] + _tuning_runs(study, options)
        size = archive(runs, options.runs_dir, folder / ARCHIVE)
        say(f"run folders: {folder / ARCHIVE}, {size / 1e6:.1f} MB", sys.stdout)
    put_on_page(study.name, table, options.page)


def _tuning_runs(study: Study, options: Options) -> list[Path]:
    """The folders of the runs by which the learning rates of a study were chosen, if it chose."""
    tried, there = tuning(_untuned(study, options), study.rates, _place(study, options))
    pairs = pairs_of([policy for row in tried for policy in row], TUNING_SEEDS)
    return [policy.folder(there.runs_dir, seed) for policy, seed in pairs]


def run_sharing(options: Options) -> None:
    """Runs what is missing of the study `sharing`, and writes its tables and its picture."""
    # Two heads: widths in steps of two come nearer to equal parameters than in steps of four.
    env = dataclasses.replace(SMALL, n_head=2, device=options.device)
    there = dataclasses.replace(options, runs_dir=options.runs_dir / SHARING)
    count = max(options.seeds or cost_of_changing.SEEDS, cost_of_changing.LEAST_SEEDS)
    rows = cost_of_changing.run(env, range(count), there)
    folder = options.page.with_suffix("") / SHARING
    table = cost_table.write(rows, folder)
    say(f"{table}\nall runs: {folder}/runs.csv\npicture:  {folder}/costs.png", sys.stdout)
    picture = f"{options.page.stem}/{SHARING}/costs.png"
    shown = f"[![What changing ties costs in each variant]({picture})]({picture})"
    put_on_page(SHARING, f"{table}\n{shown}\n", options.page)


def run_related(options: Options) -> None:
    """Runs what is missing of the study `related`, and writes its table and its picture."""
    (depth,) = (study for study in studies() if study.name == "depth-nested")
    env, there = env_of(depth, options), _place(depth, options)
    judged = judge(related.run(env, range(options.seeds or related.SEEDS), there))
    folder = options.page.with_suffix("") / RELATED
    write(judged, folder)
    table = related.write(judged, folder)
    say(
        f"{table}\nall columns: {folder}/comparison.csv\npicture:     {folder}/stored.png",
        sys.stdout,
    )
    put_on_page(RELATED, table, options.page)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(Options, "baselines.results", __doc__, args=args)
    with long_work():
        for study in chosen(options):
            put_into_page(study, run_study(study, options), options)
        if not options.study or SHARING in options.study:
            run_sharing(options)
        if not options.study or RELATED in options.study:
            run_related(options)


if __name__ == "__main__":
    main()
