"""TieEnv's decisions without a transformer, with a known best answer: for tests of learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import Action, TieConfig, TieParts
from tiegym.parts import PARTS
from tiegym.spaces import make_action_space, make_observation_space
from tiegym.transformer.layer_stats import FEATURES


class KnownAnswer(gymnasium.Env[dict[str, Any], Any]):
    """The spaces, cursor and masks of TieEnv; the loss counts the layers that are tied wrongly.

    The reward is minus that loss, as with reward="neg_log_ppl".

    Args:
        best: The tie vector, shape (L,), that has the lowest loss, or those of both parts, (2L,).
        action: The action protocol.
        sweeps: Length of an episode, in sweeps of L-1 steps.
        floor: The loss with the best ties; a transformer's never reaches zero.
        noise: Standard deviation of what is added to each reward.
        tie_parts: As of TieEnv.
        frozen: What is frozen at best; None: nothing can be.
    """

    def __init__(
        self,
        best: Sequence[int] = (0, 1, 0, 1, 4),
        action: Action = "layerwise",
        sweeps: int = 3,
        floor: float = 0.0,
        noise: float = 0.0,
        tie_parts: TieParts = "block",
        frozen: Sequence[bool] | None = None,
    ) -> None:
        n_layer = len(best) // len(PARTS[tie_parts])
        self.config = TieConfig(
            n_layer=n_layer,
            action=action,
            corpus="synthetic:20000",
            tie_parts=tie_parts,
            choices="tie" if frozen is None else "tie+freeze",
        )
        self.actions = Actions.of(self.config)
        self.best = parts.validate(best, n_layer, self.config.n_parts)
        self.best_choices = self.actions.choices(self.best, frozen)
        self.length = sweeps * len(self.actions.turns)
        self.floor, self.noise = floor, noise
        self.action_space = make_action_space(self.config)
        self.observation_space = make_observation_space(self.config)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.choices, self.unit = np.zeros_like(self.best), self.actions.first()
        self.steps, self.loss = 0, self.floor + self.wrong
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.choices = self.actions.after(action, self.choices, self.unit)
        self.unit = self.actions.following(self.unit)
        self.steps += 1
        self.loss = self.floor + self.wrong
        reward = -self.loss + self.noise * self.np_random.normal()
        return self._observation(), reward, self.steps == self.length, False, self._info()

    @property
    def wrong(self) -> int:
        """How many layers don't point where the best answer points."""
        return int(np.count_nonzero(self.choices != self.best_choices))

    @property
    def ties(self) -> np.ndarray:
        return self.actions.ties_of(self.choices)[0]

    def action_masks(self) -> np.ndarray:
        return self.actions.mask(self.unit)

    def _observation(self) -> dict[str, Any]:
        part, layer = divmod(self.unit, self.config.n_layer)
        ties, frozen = self.actions.ties_of(self.choices)
        more: dict[str, Any] = {}
        if self.actions.n_parts > 1:
            more["part"] = part
        if self.actions.freeze:
            more["frozen"] = frozen.astype(np.int8)
        return {
            **more,
            "ties": ties.astype(np.int16),
            "layer": layer,
            "budget": np.array([self.steps / self.length], dtype=np.float32),
            "loss": np.array([self.loss, self.loss], dtype=np.float32),
            "layer_stats": np.zeros(len(self.best) * len(FEATURES), dtype=np.float32),
        }

    def _info(self) -> dict[str, Any]:
        if self.config.action == "joint":
            return {}
        return {"action_mask": self.action_masks().astype(np.int8)}


def finds_the_best_ties(model: BaseAlgorithm, policy: Any, env: KnownAnswer, steps: int) -> bool:
    """Lets an agent learn until its best actions lead to the best ties; False if they never do.

    It looks ten times during learning: when an agent arrives depends on the processor's rounding.
    """
    for _ in range(10):
        model.learn(steps // 10, reset_num_timesteps=False)
        greedy_ties(policy, env)
        if env.wrong == 0:
            return True
    return False


def greedy_ties(policy: Any, env: KnownAnswer) -> list[int]:
    """The tie vector at the end of an episode under a policy's best actions."""
    observation, _ = env.reset(seed=0)
    state, start, done = None, True, False
    while not done:
        action, state = policy.predict(observation, state, np.array([start]), deterministic=True)
        observation, _, done, _, _ = env.step(action)
        start = False
    return [int(target) for target in env.ties]
