"""Pairwise: one small network scores (layer, target) pairs, the same one for all layers.

    python -m agents.pairwise --pretrain-runs 8 --seed 1
    python -m agents.pairwise --policy runs/pairwise-seed1/agent.zip --env.n-layer 24

The published Q-network has an output for every pair of layers, so what it learns of one layer
says nothing of another, and nothing of a deeper transformer. Here the score of tying layer i to
layer j comes from what an observation says of these two layers and of the run. Scores of
j = 0, ..., i pass through a softmax. The number of layers appears nowhere in the weights: a policy
that was trained on 6 layers acts on 24. It is trained by PPO (Schulman et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.protocols import AgentOptions, train_agent
from tiegym.layer_stats import FEATURES
from tiegym.programs import parse_options

N_PAIR = 2 * len(FEATURES) + 9
N_RUN = 4 + len(FEATURES)


@dataclass(frozen=True)
class Options(AgentOptions):
    """Train the pairwise policy with PPO; layerwise actions."""

    policy: Path | None = None
    """An agent.zip of this program to start from, trained on any number of layers."""
    learning_rate: float = 1e-3
    """Of Adam."""
    n_steps: int = 20
    """Environment steps in a rollout."""
    n_epochs: int = 10
    """Passes over each rollout."""
    gamma: float = 0.95
    """Discount; the horizon is about 1 / (1 - gamma) steps."""
    gae_lambda: float = 0.9
    """Of generalised advantage estimation."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus."""


class PairwisePolicy(ActorCriticPolicy):
    """An actor-critic policy whose networks are shared over layers.

    The actor sees for each pair (i, j <= i): the stats of both layers, their distance, whether
    j is i, whether it is i's present target, whether they share a root, whether j is
    independent, and where the run stands. The critic sees the run and the mean layer.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        def network(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
            )

        self.scorer, self.critic = network(N_PAIR), network(N_RUN)
        for net, gain in ((self.scorer, 0.1), (self.critic, 1.0)):
            for layer in net:
                if isinstance(layer, nn.Linear):
                    nn.init.orthogonal_(layer.weight, 2**0.5)
                    nn.init.zeros_(layer.bias)
            nn.init.orthogonal_(net[-1].weight, gain)  # the first policy is nearly uniform
        self.optimizer = self.optimizer_class(
            self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs
        )

    def scores_and_values(self, obs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, L) of the targets of the layer under the cursor, and values (B, 1).

        Args:
            obs: A batch of observations as the environment gives them.
        """
        ties = obs["ties"].long().flatten(1)  # (B, L)
        batch, n = ties.shape
        layer = obs["layer"].long().reshape(batch, 1)
        stats = obs["layer_stats"].float().view(batch, n, -1)
        roots = _roots(ties)
        index = torch.arange(n, device=ties.device).expand(batch, n)
        independent = (ties == index).float()
        share = independent.mean(1, keepdim=True)
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
        scores = self.scorer(pairs).squeeze(2)
        scores = scores.masked_fill(index > layer, -1e9)
        run = torch.cat((budget, loss, share, stats.mean(1)), dim=1)
        return scores, self.critic(run)

    def forward(
        self, obs: dict[str, Tensor], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (B,), values (B, 1) and log-probabilities (B,)."""
        scores, values = self.scores_and_values(obs)
        distribution = self.action_dist.proba_distribution(action_logits=scores)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(
        self, obs: dict[str, Tensor], actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (B, 1), log-probabilities (B,) and entropy (B,) of given actions."""
        scores, values = self.scores_and_values(obs)
        distribution = self.action_dist.proba_distribution(action_logits=scores)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: dict[str, Tensor]) -> Distribution:
        """The distribution over targets."""
        return self.action_dist.proba_distribution(action_logits=self.scores_and_values(obs)[0])

    def predict_values(self, obs: dict[str, Tensor]) -> Tensor:
        """Values (B, 1)."""
        return self.scores_and_values(obs)[1]


def _roots(ties: Tensor) -> Tensor:
    """Roots (B, L) of tie vectors (B, L): following pointers log2(L) times twice as far."""
    for _ in range(max(1, int(ties.shape[1]).bit_length())):
        ties = ties.gather(1, ties)
    return ties


def make_model(options: Options, env: gymnasium.Env[Any, Any]) -> PPO:
    """The untrained agent, or the one that `options.policy` holds, for this environment.

    Raises:
        ValueError: If the environment's actions aren't layerwise.
    """
    if options.env.action != "layerwise":
        raise ValueError(
            f"agents.pairwise decides layer by layer, but env.action={options.env.action!r}: "
            'choose "layerwise"'
        )
    model = PPO(
        PairwisePolicy,
        env,
        learning_rate=options.learning_rate,
        n_steps=options.n_steps,
        batch_size=options.n_steps,
        n_epochs=options.n_epochs,
        gamma=options.gamma,
        gae_lambda=options.gae_lambda,
        ent_coef=options.ent_coef,
        seed=options.seed,
        device="cpu",
    )
    if options.policy is not None:
        model.policy.load_state_dict(PPO.load(options.policy, device="cpu").policy.state_dict())
    return model


def train(options: Options) -> Path:
    """Trains the agent; returns the run folder."""
    return train_agent(options, "pairwise", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    print(f"run folder: {train(parse_options(Options, args))}")


if __name__ == "__main__":
    main()
