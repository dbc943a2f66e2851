"""Pairwise: one small network scores (layer, target) pairs, the same one for all layers.

    python -m agents.pairwise --pretrain-runs 8 --seed 1
    python -m agents.pairwise --source runs/pairwise-seed1 --env.n-layer 24

The paper's Q-network has an output for every pair of layers, so what it learns of one layer says
nothing of another, and nothing of a deeper transformer. Here the score of tying layer i to layer j
comes from what an observation says of these two layers and of the run, and the scores of
j = 0, ..., i pass through a softmax. The number of layers appears nowhere in the weights: a policy
that was trained at 6 layers acts at 24. It learns by PPO, as `agents.ppo` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO

from agents import ppo
from agents.pairwise_network import PairwisePolicy
from agents.protocols import Greedy, train_agent
from agents.reward_differences import Env, level_free
from agents.saved_agents import AGENT_FILE, read_agent, save_agent
from agents.trained_sources import agent_in, check_seed, find_source, recorded_source
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.training.load import load_data


@dataclass(frozen=True)
class Options(ppo.Options):
    """Train a transformer under the pairwise policy; layerwise actions."""

    source: Path | None = None
    """Folder of a finished run of this program whose agent decides here, greedily and without
    learning; it may have had another number of layers. A run of tiegym 0.1 has its agent in an
    archive, which must be named itself: RUN/agent.zip."""

    @classmethod
    def free_on_table(cls) -> tuple[str, ...]:
        """Weights know no number of layers, and a run may have more sweeps."""
        return (*super().free_on_table(), "n_layer", "max_iters")

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the environment's actions aren't layerwise, or two options contradict.
        """
        super().__post_init__()
        if self.env.action != "layerwise":
            raise ValueError(
                f"agents.pairwise decides layer by layer, but env.action={self.env.action!r}: "
                'choose "layerwise"'
            )
        if self.source is None:
            return
        for name in ("pretrain_runs", "table"):
            if value := getattr(self, name):
                raise ValueError(
                    f"source={str(self.source)!r} brings a trained agent, but {name}={value!r} "
                    "asks to train one: give one of them"
                )

    def source_record(self) -> dict[str, Any] | None:
        """See `RunOptions.source_record`; what it takes over is the agent."""
        if self.source is None:
            return None
        return {"run": self.source, "agent_sha256": agent_in(self.source).sha256}


def make_model(options: Options, env: Env) -> PPO:
    """The untrained agent."""
    env = level_free(env, options)
    return PPO(PairwisePolicy, env, **ppo.settings(options, env))


def play(options: Options, source: Path) -> Path:
    """Lets the agent of a finished run decide; returns the new run folder.

    The new folder gets the agent, too, and a resumed run takes it from there.

    Args:
        options: Of the program.
        source: Folder of a run of this program, or the agent.zip in one.

    Raises:
        InputError: If it is no folder of a finished run, another program made it, or its agent
            learnt on the run in which it is to decide.
    """
    kept = None if options.resume is None else options.resume / AGENT_FILE
    if kept is not None and kept.is_file():
        assert options.resume is not None
        agent, record = read_agent(kept), recorded_source(read_config(options.resume))
        spent, table_steps = agent.count("spent_iterations"), agent.count("table_steps")
    else:
        found = find_source(source, options.env, named_by_user=options.resume is None)
        check_seed(found.folder, found.learnt, options.seed, options.env.n_layer, _text(options))
        agent, spent, table_steps = found.agent, found.spent_iterations, found.table_steps
        record = {"source": options.source_record(), **found.learnt.record}
    with open_run(options, "pairwise", protocol="pretrained", source_run=source, **record) as env:
        model = make_model(options, env)  # of this number of layers, with the same weights
        agent.give_to(model)
        save_agent(model, env.folder, spent_iterations=spent, table_steps=table_steps)
        env.note(extra_iterations=spent)
        if "table" in record:
            table = {name: value for name, value in record.items() if name.startswith("table")}
            env.note(table_steps=table_steps, **table)
        run_policy(env, Greedy(model, env), options.seed, options.steps)
    return env.folder


def _text(options: Options) -> str:
    """The hash of the environment's text."""
    with as_input_errors():
        return load_data(options.env).sha256


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    if options.source is not None:
        return play(options, options.source)
    return train_agent(options, "pairwise", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    # By its full name, so that agent.zip refers to agents.pairwise and not to __main__, where no
    # other program would find PairwisePolicy.
    from agents.pairwise import main as program

    program()
