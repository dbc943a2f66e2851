"""Decision S4: a sequence model that is told what to reach, on state space layers; layerwise.

    python -m agents.decision_s4 --table tree-4x2-wikitext-2-sum --seed 1
    python -m agents.decision_s4 --runs runs/random-tying-seed1 runs/random-tying-seed2

David, Zimerman, Nachmani and Wolf 2022, *Decision S4: Efficient Sequence-Based RL via State Spaces
Layers*, arXiv 2306.05167. It first imitates whole episodes that others decided, told by how much
each of them gained; asked for the best of these gains it then decides by itself, and improves by a
critic. What a run gains is the fall of its loss, less its price where the reward has one, in
nats: an agent that sees two observations knows the reward between them, and needs no other.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from stable_baselines3.common.base_class import BaseAlgorithm

from agents.agent_options import AgentOptions
from agents.decision_s4_learning import DecisionS4
from agents.protocols import Greedy, kinds_on, train_agent
from agents.recorded_runs import read_runs
from agents.reward_differences import Env
from agents.saved_agents import AGENT_FILE, SavedAgent, read_agent, save_agent
from agents.table_options import check_run
from agents.tabulated import learn_for_run
from agents.trajectory_buffer import Eyes
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.messages import say
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.runs.progress import Progress

PROGRAM = "decision_s4"

PRETRAIN_RUNS = 8
"""Unless it learns otherwise before the recorded run: it can't learn from a run that goes on."""


@dataclass(frozen=True)
class Options(AgentOptions):
    """Train a transformer under Decision S4, which learns beforehand from whole runs."""

    pretrain_runs: int = PRETRAIN_RUNS
    """Whole training runs, of other seeds, over which the agent learns first; then it plays the
    recorded run greedily and learns no more. 0 with --table or --runs."""
    runs: tuple[str, ...] = ()
    """Run folders, folders that hold some, or Minari data sets to learn from offline; with
    --table it then goes on online there. Episodes of its own seed are left out. What runs record
    has no layer_stats: --no-layer-stats is the default with them."""
    behaviour: Literal["random", "random-fixed", "mixture"] = "mixture"
    """Without --runs, who decides at first: random draws at each decision, random-fixed once an
    episode for each layer, and a mixture has episodes of both."""
    offline_share: float = 0.5
    """The share of the learning over which it imitates this behaviour."""
    offline_updates: int = 2000
    """Updates on --runs."""
    target_factor: float = 1.0
    """It is asked for so many times the largest gain of an episode that it learnt from."""
    layer_stats: bool = True
    """See the layer_stats of observations, too."""
    learning_rate: float = 1e-3
    """Of the agent's AdamW."""
    weight_decay: float = 1e-4
    """Of the agent's AdamW."""
    gamma: float = 0.99
    """Discount of the critic."""
    buffer_size: int = 100_000
    """Environment steps that the agent remembers, in whole episodes."""
    batch_size: int = 32
    """Episodes in each update."""
    gradient_steps: int = 1
    """Updates after each environment step of all members, once an episode has ended."""
    tau: float = 0.05
    """How far the slow copies of the networks move towards them at each update; 1 copies."""
    ent_coef: float = 0.02
    """Weight of the entropy bonus, against advantages that are scaled to 1."""
    exploration_fraction: float = 0.75
    """Share of the learning over which the probability of a random action falls from 1, from the
    end of the behaviour policy on."""
    exploration_final_eps: float = 0.02
    """Probability of a random action from then on."""
    width: int = 32
    """Channels of the sequence model, and units of the critic."""
    states: int = 8
    """Complex states of each channel."""
    layers: int = 2
    """State space layers."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {
            "pretrain_runs": 0,
            "envs": 10,
            "gamma": 1.0,
            "offline_share": 0.1,
            "exploration_fraction": 0.5,
        }

    @classmethod
    def defaults(cls, args: Sequence[str], env: TieConfig | None = None) -> Self:
        """See `RunOptions.defaults`; recorded runs change them, too."""
        options = super().defaults(args, env)
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--runs", nargs="*", default=())
        if runs := tuple(parser.parse_known_args(args)[0].runs):
            options = dataclasses.replace(options, runs=runs, pretrain_runs=0, layer_stats=False)
        return options

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the environment's actions aren't layerwise, two options contradict, or a
                value is out of range.
        """
        super().__post_init__()
        if self.env.action != "layerwise":
            raise ValueError(
                f"agents.decision_s4 decides layer by layer, but env.action={self.env.action!r}: "
                'choose "layerwise"'
            )
        if self.runs and self.pretrain_runs:
            raise ValueError(
                f"runs={self.runs!r} and pretrain_runs={self.pretrain_runs} are two ways to learn "
                "before the recorded run: give one of them; runs may go with table"
            )
        if not (self.runs or self.pretrain_runs or self.table):
            raise ValueError(
                "pretrain_runs=0: Decision S4 learns from whole runs, before the recorded one: "
                "give pretrain_runs, table or runs"
            )
        if not self.exploration_fraction > self.offline_share:
            raise ValueError(
                f"exploration_fraction={self.exploration_fraction} must be above "
                f"offline_share={self.offline_share}, from which on it explores"
            )
        for name in ("width", "states", "layers", "offline_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name, holds, allowed in (
            ("offline_share", 0 <= self.offline_share < 1, "from 0 to below 1"),
            ("target_factor", 0 < self.target_factor < float("inf"), "above 0"),
            ("ent_coef", 0 <= self.ent_coef < float("inf"), "0 or more"),
        ):
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)} must be {allowed}")

    @property
    def protocol(self) -> str:
        """Tabulated or pretrained: it never learns in the recorded run."""
        return "tabulated" if self.table is not None else "pretrained"


def make_model(options: Options, env: Env) -> DecisionS4:
    """The untrained agent.

    Raises:
        InputError: If it is to learn from recorded runs, which `train` alone gives it.
    """
    if options.runs:
        raise InputError(
            f"runs={options.runs!r}: only a run of agents.decision_s4 itself learns from recorded "
            "runs, with or without a table: leave it out"
        )
    return untrained(options, env)


def untrained(options: Options, env: Env) -> DecisionS4:
    """The agent before it has learnt anything."""
    return DecisionS4(
        "S4Policy",
        env,
        eyes=Eyes.of(options.env, options.layer_stats, kinds_on(env)),
        horizon=options.env.steps_per_episode,
        target_factor=options.target_factor,
        behaviour=options.behaviour,
        offline_share=options.offline_share,
        ent_coef=options.ent_coef,
        exploration_fraction=options.exploration_fraction,
        exploration_final_eps=options.exploration_final_eps,
        width=options.width,
        states=options.states,
        layers=options.layers,
        weight_decay=options.weight_decay,
        learning_rate=options.learning_rate,
        buffer_size=options.buffer_size,
        batch_size=options.batch_size,
        gradient_steps=options.gradient_steps,
        learning_starts=0,
        gamma=options.gamma,
        tau=options.tau,
        seed=options.seed,
        device="cpu",  # for so small a network a GPU is slower
    )


def train_on_runs(options: Options) -> Path:
    """Learns offline from recorded runs, with a table online on that, and then plays one.

    Raises:
        InputError: See `tiegym.runs.program.open_run`, `agents.table_options.check_run` and
            `agents.recorded_runs.read_runs`.
    """
    check_run(options)
    saved = saved_before(options)
    data, left_out = None, 0
    if saved is None:
        data, left_out = read_runs(
            options.runs, options.env, options.layer_stats, leave_out=options.seed
        )
        if left_out and not options.quiet:
            say(f"{left_out} episodes of seed {options.seed} are left out: its own", sys.stdout)
    with open_run(options, PROGRAM, protocol=options.protocol, **options.table_facts) as env:

        def learnt_offline(there: Env) -> DecisionS4:
            assert data is not None
            model, updates = untrained(options, there), options.offline_updates
            progress = Progress(updates, f"{PROGRAM}: offline", options.quiet, unit="updates")

            def after_each(done: int) -> None:
                progress.update(done)
                env.get_wrapper_attr("journal").stop()

            with closing(progress):
                model.learn_offline(data.episodes, updates, after_each)
            return model

        model: BaseAlgorithm
        if saved is not None:
            model = untrained(options, env)
            saved.give_to(model)
            spent, left_out = saved.count("spent_iterations"), saved.count("left_out_episodes")
        else:
            assert data is not None
            spent = data.iterations
            if options.table is not None:
                model = learn_for_run(options, PROGRAM, env, learnt_offline)
            else:
                model = learnt_offline(env)
                save_agent(model, env.folder, spent_iterations=spent, left_out_episodes=left_out)
        if options.table is not None:
            env.note(table_steps=options.table_steps, **options.table_facts)
        env.note(extra_iterations=spent, left_out_episodes=left_out)
        run_policy(env, Greedy(model, env), options.seed, options.steps)
    return env.folder


def saved_before(options: Options) -> SavedAgent | None:
    """The agent of a run that is resumed, whatever became of the runs that it learnt from.

    On a table it goes on learning after them, and learns again.
    """
    if options.resume is None or options.table is not None:
        return None
    path = options.resume / AGENT_FILE
    return read_agent(path) if path.is_file() else None


def train(options: Options) -> Path:
    """Trains the transformer under the agent; returns the run folder, which gets the agent."""
    if options.runs:
        return train_on_runs(options)
    return train_agent(options, PROGRAM, lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
