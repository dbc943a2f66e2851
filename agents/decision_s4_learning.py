"""How Decision S4 learns: it imitates whole episodes, told how they ended, then acts and improves.

David et al. 2022, *Decision S4: Efficient Sequence-Based RL via State Spaces Layers*, arXiv
2306.05167. Episodes are learnt from as a whole, by the convolution; decisions are taken one after
the other, by the recurrence.

- Offline: what was done is predicted from what was seen and by how much the level rose until the
  end (cross-entropy). The critic learns meanwhile what the actor, asked for the target, is worth.
- Online: the actor, asked for the target, moves towards actions that the critic holds for better
  than its average, with a bonus for entropy. Both aim at slow copies of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import polyak_update
from torch import Tensor
from torch.nn import functional as F

from agents.decision_network import S4Policy, State
from agents.trajectory_buffer import Batch, Eyes, TrajectoryBuffer
from tiegym.offline.trajectories import Trajectory

ITSELF, RANDOM, KEPT = range(3)
"""Who decides in an episode: the agent, chance at every decision, or a choice per unit, kept."""

CLIP = 0.25
"""Norm of the gradients of the actor, and of the critic."""

BEHAVIOURS = {"random": (RANDOM,), "random-fixed": (KEPT,), "mixture": (RANDOM, KEPT)}
"""Behaviour policies by name: what each episode of theirs is drawn from."""


class DecisionS4(OffPolicyAlgorithm):
    """Decision S4 as a Stable-Baselines3 algorithm; needs layerwise actions.

    Args:
        policy: "S4Policy".
        env: A TieEnv with action="layerwise", or a vector of them.
        learning_rate: Of AdamW, constant.
        eyes: How it sees observations.
        horizon: Decisions of an episode.
        target_factor: The actor is asked for so many times the largest rise seen so far.
        behaviour: One of `BEHAVIOURS`: who decides at first.
        offline_share: For which share of the learning; none once trajectories were given.
        ent_coef: Weight of the entropy, against advantages of standard deviation 1.
        exploration_fraction: Share of the learning over which the probability of a random action
            falls from 1.
        exploration_final_eps: That probability from then on.
        width: See `S4Policy`.
        states: See `S4Policy`.
        layers: See `S4Policy`.
        weight_decay: See `S4Policy`.
        **off_policy: Further arguments of Stable-Baselines3's off-policy algorithms; batches are
            of whole episodes.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"S4Policy": S4Policy}
    policy: S4Policy

    def __init__(
        self,
        policy: str | type[S4Policy],
        env: GymEnv | str,
        learning_rate: float = 1e-3,
        *,
        eyes: Eyes | None = None,
        horizon: int = 1,
        target_factor: float = 1.0,
        behaviour: str = "mixture",
        offline_share: float = 0.5,
        ent_coef: float = 0.02,
        exploration_fraction: float = 0.5,
        exploration_final_eps: float = 0.02,
        width: int = 32,
        states: int = 8,
        layers: int = 2,
        weight_decay: float = 1e-4,
        _init_setup_model: bool = True,
        **off_policy: Any,
    ) -> None:
        self.eyes, self.horizon = eyes, horizon
        self.target_factor = target_factor
        self.behaviour, self.offline_share = behaviour, offline_share
        self.ent_coef = ent_coef
        self.exploration_fraction = exploration_fraction
        self.exploration_final_eps = exploration_final_eps
        self.given = 0
        """Trajectories that it was given."""
        networks = {"eyes": eyes, "width": width, "states": states, "layers": layers}
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs={**networks, "weight_decay": weight_decay},
            sde_support=False,
            support_multi_env=True,
            **off_policy,
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.rng = np.random.default_rng(self.seed)
        assert self.eyes is not None
        capacity = max(1, self.buffer_size // self.horizon)
        self.buffer = TrajectoryBuffer(self.eyes, self.horizon, capacity, self.n_envs)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        )
        self._convert_train_freq()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "buffer", "_seen", "_state"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        last = self._last_obs
        result = super()._setup_learn(*args, **kwargs)
        if self._last_obs is not last:  # new episodes
            self.buffer.abandon()
            self._state: State | None = None
            self._starts = np.ones(self.n_envs, bool)
            self._who = np.full(self.n_envs, ITSELF)
            self._kept = np.full((self.n_envs, self.policy.eyes.actions.n_units), -1)
        return result

    def learn_offline(
        self,
        trajectories: Iterable[Trajectory],
        updates: int,
        after_each: Callable[[int], object] = lambda update: None,
    ) -> None:
        """Imitates given trajectories; no behaviour policy decides after that.

        Args:
            trajectories: At least one.
            updates: Of gradient descent.
            after_each: Called with the number of updates so far.
        """
        for one in trajectories:
            self.buffer.put(self.policy.eyes.see(one.observations), one.actions)
            self.given += 1
        self._aim()
        for update in range(updates):
            self.update(offline=True)
            after_each(update + 1)

    @property
    def offline(self) -> bool:
        """Whether the behaviour policy still decides."""
        return not self.given and self._progress < self.offline_share

    @property
    def epsilon(self) -> float:
        """The probability of a random action where the agent decides."""
        begin = 0.0 if self.given else self.offline_share
        left = 1 - (self._progress - begin) / max(self.exploration_fraction - begin, 1e-9)
        return max(self.exploration_final_eps, min(1.0, left))

    @property
    def _progress(self) -> float:
        return self.num_timesteps / max(1, self._total_timesteps)

    def _sample_action(
        self, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the place of the library's exploration: see the module's docstring."""
        seen = self._seen = self.policy.eyes.see(self._last_obs)  # type: ignore[arg-type]
        who = BEHAVIOURS[self.behaviour] if self.offline else (ITSELF,)
        drawn = self.rng.choice(who, size=n_envs)
        self._who = np.where(self._starts, drawn, self._who)
        allowed = self.policy.masks.numpy()[seen.unit]
        by_chance = self._draw(allowed / allowed.sum(1, keepdims=True))
        members = np.arange(n_envs)
        self._kept[self._starts] = -1
        kept = self._kept[members, seen.unit]
        kept = self._kept[members, seen.unit] = np.where(kept < 0, by_chance, kept)
        actions = np.where(self._who == KEPT, kept, by_chance)
        if (self._who == ITSELF).any():
            scores, hidden = self.policy.decide(seen, self._state, self._starts)
            own = self._draw(scores.softmax(1).numpy())
            greedy = self.rng.random(n_envs) >= self.epsilon
            actions = np.where((self._who == ITSELF) & greedy, own, actions)
            self._state = hidden, actions
        return actions, actions

    def _draw(self, probabilities: np.ndarray) -> np.ndarray:
        """An action of each member, by its probabilities (B, A)."""
        reached = probabilities.cumsum(axis=1)
        drawn = reached / reached[:, -1:] > self.rng.random((len(reached), 1))
        return np.asarray(drawn.argmax(axis=1))

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: np.ndarray,
        new_obs: Any,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Takes the place of the library's replay: whole episodes, without rewards.

        What a decision gained is in the observations, where acting finds it, too.
        """
        after = {key: np.array(values) for key, values in new_obs.items()}
        for member in np.flatnonzero(dones):
            for key, values in after.items():
                values[member] = infos[member]["terminal_observation"][key]
        self.buffer.add(self._seen, buffer_action, self.policy.eyes.see(after), dones)
        self._last_obs, self._starts = new_obs, np.array(dones, bool)
        if dones.any():
            self._aim()

    def _aim(self) -> None:
        """What the actor is asked for from now on: the rule is the class's `target_factor`."""
        assert self.buffer.best is not None
        begin, rise = self.buffer.best
        self.policy.target_level.fill_(begin + self.target_factor * rise)

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Some updates, once an episode has ended."""
        if not self.buffer.count:
            return
        losses = [self.update(self.offline) for _ in range(gradient_steps)]
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in zip(("actor", "critic"), zip(*losses, strict=True), strict=True):
            self.logger.record(f"train/{name}_loss", np.mean(values))
        self.logger.record("rollout/target_level", self.policy.target_level.item())
        self.logger.record("rollout/exploration_rate", 1.0 if self.offline else self.epsilon)

    def update(self, offline: bool) -> tuple[float, float]:
        """One step of gradient descent on whole episodes; the losses of actor and critic.

        Args:
            offline: Whether the actor imitates them, or moves to what the critic prefers.
        """
        policy, batch = self.policy, self.buffer.sample(self.batch_size, self.rng)
        own = torch.arange(batch.actions.shape[1] - 1) < batch.length[:, None]  # (B, T)
        seen = batch.choices, batch.unit, batch.figures
        before = F.pad(batch.actions[:, :-1], (1, 0), value=policy.actor.n_actions)
        asked = policy.target_level - batch.level
        done = batch.actions[:, :-1]
        with torch.no_grad():
            aim = policy.allowed(policy.target_actor(*seen, before, asked), batch.unit).softmax(2)
            values = policy.target_critic(policy.actor.embedding(*seen))
            worth = (aim * values).sum(2)[:, 1:]
            goes_on = torch.arange(1, own.shape[1] + 1) < batch.length[:, None]
            gained = batch.level.diff(dim=1).to(worth.dtype)
            targets = gained + self.gamma * worth * goes_on
        values = policy.critic(policy.actor.embedding(*seen))[:, :-1]
        taken = values.gather(2, done[:, :, None])[:, :, 0]
        critic_loss = F.mse_loss(taken[own], targets[own])
        if offline:
            actor_loss = self._imitation(batch, before)[own].mean()
        else:
            scores = policy.allowed(policy.actor(*seen, before, asked), batch.unit)[:, :-1]
            actor_loss = self._improvement(scores[own], values.detach()[own])
        policy.optimizer.zero_grad()
        (actor_loss + critic_loss).backward()  # type: ignore[no-untyped-call]
        for network in (policy.actor, policy.critic):
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        policy.optimizer.step()
        for network, target in (
            (policy.actor, policy.target_actor),
            (policy.critic, policy.target_critic),
        ):
            polyak_update(network.parameters(), target.parameters(), self.tau)
        return actor_loss.item(), critic_loss.item()

    def _imitation(self, batch: Batch, before: Tensor) -> Tensor:
        """The cross-entropy of each decision, told what the episode came to, (B, T)."""
        ends = batch.level.gather(1, batch.length[:, None])
        seen = batch.choices, batch.unit, batch.figures
        scores = self.policy.actor(*seen, before, ends - batch.level)
        scores = self.policy.allowed(scores, batch.unit)[:, :-1]
        return F.cross_entropy(scores.mT, batch.actions[:, :-1], reduction="none")

    def _improvement(self, scores: Tensor, values: Tensor) -> Tensor:
        """Minus what the actor gains by the critic's values, (n, A) both, and by its entropy."""
        logs = scores.log_softmax(1)
        probabilities = logs.exp()
        advantages = values - (probabilities.detach() * values).sum(1, keepdim=True)
        spread = (probabilities.detach() * advantages.square()).sum(1).mean().sqrt()
        gain = (probabilities * advantages).sum(1) / (spread + 1e-8)
        entropy = -(probabilities * logs).sum(1)
        return -(gain + self.ent_coef * entropy).mean()
