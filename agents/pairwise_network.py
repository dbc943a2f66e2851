"""The networks of `agents.pairwise`: one score for each pair of layers, whatever their number."""

from __future__ import annotations

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

N_PAIR = 9
"""Figures of a pair of layers that the actor sees, besides the stats of both."""

N_RUN = 4
"""Figures of the run that the critic sees, besides the stats of the mean layer."""

FREEZE_PAIR, FREEZE_RUN = 2, 1
"""Figures more, where layers can be frozen."""


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
