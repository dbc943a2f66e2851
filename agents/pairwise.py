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

from stable_baselines3 import PPO

from agents import ppo
from agents.pairwise_network import PairwisePolicy
from agents.protocols import Greedy, train_agent
from agents.reward_differences import Env, level_free
from agents.saved_agents import AGENT_FILE, SavedAgent, read_agent, save_agent
from baselines.retrain import read_source, spent_iterations
from tiegym.config import TieConfig, default_arguments
from tiegym.runs.input_errors import InputError
from tiegym.runs.program import open_run, run_policy, run_program


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
        InputError: If it is no folder of a finished run, or another program made it.
    """
    kept = None if options.resume is None else options.resume / AGENT_FILE
    if kept is not None and kept.is_file():
        agent = read_agent(kept)
        spent = agent.values.get("spent_iterations", 0)
    else:
        agent, spent = find_agent(source, options.env, named_by_user=options.resume is None)
    with open_run(options, "pairwise", protocol="pretrained", source_run=source) as env:
        model = make_model(options, env)  # of this number of layers, with the same weights
        agent.give_to(model)
        save_agent(model, env.folder, spent_iterations=spent)
        env.note(extra_iterations=spent)
        run_policy(env, Greedy(model, env), options.seed, options.steps)
    return env.folder


def find_agent(source: Path, env: TieConfig, named_by_user: bool) -> tuple[SavedAgent, int]:
    """The agent of a finished run, and the iterations that it took to train it.

    Args:
        source: Folder of a run of this program, or the agent.zip in one.
        env: The environment that it is to act in.
        named_by_user: Whether it was just named on the command line, and not by a file.

    Raises:
        InputError: If there is none that can be used.
    """
    archive = source if source.suffix == ".zip" else None
    folder = source if archive is None else source.parent
    run = read_source(folder)
    if run.config.get("program") != "pairwise":
        raise InputError(
            f"{folder} is a run of {run.config.get('program')}: give one of agents.pairwise, whose "
            "agent alone fits any number of layers"
        )
    for name in ("tie_parts", "choices", "features"):
        theirs = run.config["env"].get(name, default_arguments()[name])
        if theirs != getattr(env, name):
            raise InputError(
                f"{folder} has an agent for {name}={theirs!r}, but env.{name} is "
                f"{getattr(env, name)!r}: its agent fits any number of layers, "
                "but no other choices or features"
            )
    if archive is not None and not named_by_user:
        raise InputError(f"{archive} was named by a record, and not by you: start this run anew")
    if archive is None and not (folder / AGENT_FILE).exists():
        raise InputError(
            f"{folder} has no {AGENT_FILE}: its agent is in an archive of tiegym 0.1. If you trust "
            f"it, name the archive itself: --source {folder / 'agent.zip'}"
        )
    agent = read_agent(archive or folder / AGENT_FILE)
    assert run.summary is not None
    if run.config.get("protocol") == "online":
        return agent, spent_iterations(run)
    return agent, int(run.summary.get("extra_iterations", 0))


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
