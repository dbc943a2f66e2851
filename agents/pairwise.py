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

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents import ppo
from agents.protocols import Greedy, train_agent
from agents.reward_differences import Env, level_free
from agents.saved_agents import AGENT_FILE, SavedAgent, read_agent, save_agent
from baselines.retrain import read_source, spent_iterations
from tiegym.config import TieConfig, default_arguments
from tiegym.runs.input_errors import InputError
from tiegym.runs.program import open_run, run_policy, run_program

N_PAIR = 9
"""Figures of a pair of layers that the actor sees, besides the stats of both."""

N_RUN = 4
"""Figures of the run that the critic sees, besides the stats of the mean layer."""

FREEZE_PAIR, FREEZE_RUN = 2, 1
"""Figures more, where layers can be frozen."""


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


class PairwisePolicy(ActorCriticPolicy):
    """An actor-critic policy whose networks are shared over layers.

    The actor sees for each pair (i, j <= i): the stats of both layers, their distance, whether
    j is i, whether it is i's present target, whether they share a root, whether j is
    independent, and where the run stands. The critic sees the run and the mean layer.

    Where parts of layers share weights apart, pairs are of two parts of one kind, and the actor
    sees which. Where layers can be frozen, freezing i is a pair (i, i) of its own; the actor sees
    which one that is, and whether j is frozen, and the critic how many are.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        def network(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
            )

        entries = self.observation_space.spaces  # type: ignore[attr-defined]
        parts, freeze = "part" in entries, "frozen" in entries
        n_features = entries["layer_stats"].shape[0] // entries["ties"].shape[0]
        self.scorer = network(2 * n_features + N_PAIR + parts + FREEZE_PAIR * freeze)
        self.critic = network(n_features + N_RUN + FREEZE_RUN * freeze)
        for net, gain in ((self.scorer, 0.1), (self.critic, 1.0)):
            for layer in net:
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight, 2**0.5)
                    nn.init.zeros_(layer.bias)
                    last = layer
            nn.init.orthogonal_(last.weight, gain)  # the first policy is nearly uniform
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def scores_and_values(self, obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, L) of the targets of the layer under the cursor, and values (B, 1).

        Where layers can be frozen, that has a score, too: (B, L + 1), the last one.

        Args:
            obs: A batch of observations as the environment gives them.
        """
        every = obs["ties"].long().flatten(1)  # (B, P L)
        batch, n_parts = len(every), 2 if "part" in obs else 1
        n = every.shape[1] // n_parts
        layer = obs["layer"].long().reshape(batch, 1)
        part = obs["part"].long().reshape(batch, 1) if n_parts > 1 else torch.zeros_like(layer)
        index = torch.arange(n, device=every.device).expand(batch, n)
        share = (every == index.repeat(1, n_parts)).float().mean(1, keepdim=True)
        all_stats = obs["layer_stats"].float().view(batch, n_parts * n, -1)
        of_part = part * n + index  # (B, L), the units of the part under the cursor
        ties = every.gather(1, of_part)
        stats = all_stats.gather(1, of_part[:, :, None].expand(-1, -1, all_stats.shape[2]))
        roots = _roots(ties)
        independent = (ties == index).float()
        budget, loss = obs["budget"].float(), obs["loss"].float() / 5
        mine = stats.gather(1, layer[:, :, None].expand(-1, -1, stats.shape[2]))
        pairs = torch.cat(
            (
                mine.expand(-1, n, -1),
                stats,
                torch.stack(
                    (
                        (layer - index) / n,
                        (layer / n).expand(-1, n),
                        (index == layer).float(),
                        (index == ties.gather(1, layer)).float(),
                        (roots == roots.gather(1, layer)).float(),
                        independent,
                        share.expand(-1, n),
                        budget.expand(-1, n),
                        loss[:, 1:].expand(-1, n),
                    ),
                    dim=2,
                ),
            ),
            dim=2,
        )
        if n_parts > 1:
            pairs = torch.cat((pairs, part[:, :, None].expand(-1, n, -1).float()), dim=2)
        beyond, run = index > layer, [budget, loss, share]
        if "frozen" in obs:
            all_frozen = obs["frozen"].float().flatten(1)  # (B, P L)
            pairs = _with_freezing(pairs, layer, all_frozen.gather(1, of_part))
            beyond = torch.cat((beyond, torch.zeros_like(layer, dtype=torch.bool)), dim=1)
            run.append(all_frozen.mean(1, keepdim=True))
        scores = self.scorer(pairs).squeeze(2).masked_fill(beyond, -1e9)
        return scores, self.critic(torch.cat((*run, all_stats.mean(1)), dim=1))

    def forward(  # type: ignore[override]
        self, obs: dict[str, Tensor], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B, 1) and log-probabilities (B,)."""
        scores, values = self.scores_and_values(obs)
        distribution = self.action_dist.proba_distribution(action_logits=scores)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(  # type: ignore[override]
        self, obs: dict[str, Tensor], actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropy (B,) of given actions."""
        scores, values = self.scores_and_values(obs)
        distribution = self.action_dist.proba_distribution(action_logits=scores)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(  # type: ignore[override]
        self, obs: dict[str, Tensor]
    ) -> Distribution:
        """The distribution over targets."""
        return self.action_dist.proba_distribution(action_logits=self.scores_and_values(obs)[0])

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Values (B, 1)."""
        return self.scores_and_values(obs)[1]


def _with_freezing(pairs: Tensor, layer: Tensor, frozen: Tensor) -> Tensor:
    """Pairs (B, L + 1, N + 2): behind all others the layer's own once more, which freezes it.

    Args:
        pairs: Of the layer under the cursor with each target, (B, L, N).
        layer: That layer, (B, 1).
        frozen: 1 for each layer that is frozen, (B, L).
    """
    seen = torch.stack((torch.zeros_like(frozen), frozen), dim=2)  # whether it freezes, is frozen
    pairs = torch.cat((pairs, seen), dim=2)
    own = pairs.gather(1, layer[:, :, None].expand(-1, -1, pairs.shape[2])).clone()
    own[:, :, -2] = 1
    return torch.cat((pairs, own), dim=1)


def _roots(ties: Tensor) -> Tensor:
    """Roots (B, L) of tie vectors (B, L): following pointers log2(L) times twice as far."""
    for _ in range(max(1, int(ties.shape[1]).bit_length())):
        ties = ties.gather(1, ties)
    return ties


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
