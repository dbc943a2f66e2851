"""The regret of agents in rows: for a picture, for people in Markdown, for programs in CSV.

How agents learn is in `baselines.table_learning`, what a regret is in `tiegym.bench.regret`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.table_learning import Learnt
from tiegym.analysis.forms import write_csv as write_rows
from tiegym.analysis.intervals import mean_interval
from tiegym.analysis.markdown import markdown_text
from tiegym.bench.exact import Known, known
from tiegym.bench.regret import regret
from tiegym.bench.table import Judge, Split, Table
from tiegym.bench.values import independent_share
from tiegym.pictures.regret import Bounds, Curve

DRAWN = ("random", "random-raw", "random-fixed", "best pattern", "best sequence")
"""The policies that don't learn and have a line in the picture."""


@dataclass(frozen=True)
class AgentRow:
    """An agent after so many decisions.

    Attributes:
        decisions: That it has learnt from.
        regret: In nats: each agent seed's is the mean over the recorded seeds; the mean of these,
            with Student's 95 % interval.
        over_best_sequence: The same, less the regret of the best sequence.
        share: Independent share at the end, the mean over all.
        cpu_seconds: For the decisions of the whole command, the mean over seeds.
    """

    decisions: int
    regret: Bounds
    over_best_sequence: Bounds
    share: float
    cpu_seconds: float


@dataclass(frozen=True)
class Report:
    """The regret of agents, and what they are compared with.

    Attributes:
        table: Its name.
        price: In nats, of training all layers independently.
        split: Whose recorded seeds are played.
        recorded: How many these are.
        loss: By which ends are judged.
        seeds: Of each agent.
        agents: By agent, the least regret at the end first, and within it by decisions.
        optimum: What regrets are over: the best end of each recorded seed.
        known: What doesn't learn, best first.
    """

    table: str
    price: float
    split: Split
    recorded: int
    loss: Judge
    seeds: int
    agents: dict[str, list[AgentRow]]
    optimum: Known
    known: list[Known]

    @property
    def levels(self) -> dict[str, float]:
        """The mean regret of what doesn't learn, in nats."""
        return {k.policy: _mean_regret(k, self.optimum) for k in self.known}

    @property
    def curves(self) -> list[Curve]:
        """The agents as they are drawn."""
        return [
            Curve(agent, [row.decisions for row in rows], [row.regret for row in rows])
            for agent, rows in self.agents.items()
        ]

    @property
    def title(self) -> str:
        """Of the picture."""
        about = f"{self.table}, price {self.price:g}"
        return f"{about}: mean of {self.seeds} seeds of the agent, 95 % interval"

    @property
    def caption(self) -> str:
        """What the figures are, in words."""
        loss = {"val": "validation", "test": "test"}[self.loss]
        return (
            f"Regret in nats on table {self.table} at price {self.price:g}: the {loss} loss at the "
            "end plus the price times the independent share, less that of the best end of each "
            f"recorded seed (on average {self.optimum.objective.mean():.4f}, with a share of "
            f"{self.optimum.share:.2f}). Mean over the {self.recorded} recorded seeds of split "
            f"{self.split}; of agents the mean over {self.seeds} seeds of their own, with "
            "Student's 95 % interval."
        )


def make_report(
    table: Table,
    learnt: Mapping[str, Sequence[Learnt]],
    decisions: Sequence[int],
    price: float,
    split: Split,
    loss: Judge,
) -> Report:
    """Computes all regrets.

    Args:
        table: A tree.
        learnt: Of each agent, seed by seed; at least two seeds.
        decisions: After which they were judged.
        price: See `Report`.
        split: See `Report`.
        loss: See `Report`.
    """
    found = known(table, price, split, loss)
    by_name = {k.policy: k for k in found}
    optimum = by_name.pop("clairvoyant")
    level = _mean_regret(by_name["best sequence"], optimum)
    share = independent_share(table.tree)
    agents = {}
    for agent, seeds in learnt.items():
        ends = np.array([one.ends[split] for one in seeds])  # (S, C, R)
        regrets = regret(table, ends, price, split, loss).mean(axis=2)  # (S, C)
        seconds = float(np.mean([one.cpu_seconds for one in seeds]))
        agents[agent] = [
            AgentRow(n, mean_interval(r), mean_interval(r - level), float(s), seconds)
            for n, r, s in zip(decisions, regrets.T, share[ends].mean(axis=(0, 2)), strict=True)
        ]
    return Report(
        *(table.name, price, split, len(table.rows_of(split)), loss),
        len(next(iter(learnt.values()))),
        dict(sorted(agents.items(), key=lambda item: item[1][-1].regret)),
        optimum,
        list(by_name.values()),
    )


def _mean_regret(policy: Known, optimum: Known) -> float:
    return float((policy.objective - optimum.objective).mean())


def markdown(report: Report) -> str:
    """Two tables, of agents and of what doesn't learn, below the caption."""
    decisions = [row.decisions for row in next(iter(report.agents.values()))]
    headings = ["agent", *(f"after {n:,}" for n in decisions)]
    headings += ["over the best sequence", "indep. share", "CPU µs a decision"]
    lines = []
    for agent, rows in report.agents.items():
        last = rows[-1]
        line = [markdown_text(agent), *(_interval(row.regret) for row in rows)]
        line += [_interval(last.over_best_sequence, "+"), f"{last.share:.2f}"]
        lines.append([*line, f"{last.cpu_seconds / last.decisions * 1e6:,.0f}"])
    text = f"{markdown_text(report.caption)}\n\n{_grid(headings, lines)}\n"
    headings = ["doesn't learn", "regret", "indep. share", "decisions or ties"]
    others = [
        [k.policy, f"{report.levels[k.policy]:.4f}", f"{k.share:.2f}", k.chosen]
        for k in report.known
    ]
    return text + _grid(headings, others)


def write_csv(report: Report, path: Path) -> None:
    """A line for each agent after each number of decisions, and for each policy that is known."""
    common = {"table": report.table, "price": report.price, "split": report.split}
    common |= {"recorded_seeds": report.recorded, "loss": report.loss}
    lines: list[dict[str, Any]] = [
        {
            **common,
            "policy": agent,
            "decisions": row.decisions,
            "seeds": report.seeds,
            **_columns("regret", row.regret),
            **_columns("over_best_sequence", row.over_best_sequence),
            "independent_share": row.share,
            "cpu_seconds_for_all_decisions": row.cpu_seconds,
        }
        for agent, rows in report.agents.items()
        for row in rows
    ]
    nothing = dict.fromkeys(lines[0])
    for policy in report.known:
        level = report.levels[policy.policy]
        figures = {
            "policy": policy.policy,
            "regret": level,
            "over_best_sequence": level - report.levels["best sequence"],
            "independent_share": policy.share,
        }
        lines.append(nothing | common | figures)
    write_rows(lines, path)


def _columns(name: str, bounds: Bounds) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))


def _interval(bounds: Bounds, sign: str = "") -> str:
    mean, low, high = bounds
    return f"{mean:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def _grid(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown that is one on a terminal, too; all but the first column to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    rule = ["-" * (width - (k > 0)) + ":" * (k > 0) for k, width in enumerate(widths)]
    text = ""
    for line in (headings, rule, *lines):
        cells = (
            cell.rjust(w) if k else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        text += f"| {' | '.join(cells)} |\n"
    return text
