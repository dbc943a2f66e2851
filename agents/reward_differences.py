"""What agents with a critic learn from: the change of a reward, not its level."""

from __future__ import annotations

from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from agents.agent_options import CriticOptions

Env: TypeAlias = gymnasium.Env[Any, Any] | VecEnv
"""What an agent learns on: one environment, or Stable-Baselines3's form of many."""


def level_free(env: Env, options: CriticOptions) -> Env:
    """The environment as an agent learns from it: with `RewardDifferences`, if asked for.

    Rewards named "delta_..." are differences already, and stay as they are.

    Args:
        env: One environment, or Stable-Baselines3's form of many, which gets
            `VecRewardDifferences`.
        options: Of the agent.
    """
    if not options.reward_differences or options.env.reward.startswith("delta_"):
        return env
    return VecRewardDifferences(env) if isinstance(env, VecEnv) else RewardDifferences(env)


class RewardDifferences(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives an agent the change of the reward since the last step.

    A reward such as the negative log-perplexity is a level: far from zero, about the same
    whatever the agent does, and rising by itself while the transformer learns. A critic needs
    far more steps than a training run has to learn such values. The difference is what an action
    changed. The first reward of an episode is compared with the first of the episode before; in the
    first episode there is none, and the agent gets 0.

    It is another aim than the level's. With the discount gamma, the differences of an episode add
    up to (1 - gamma) times what the levels would if the last one were kept for ever, less what the
    first is compared with: the sum over t < T of gamma^t (r_{t+1} - r_t) is the sum over t < T of
    (1 - gamma) gamma^t r_{t+1}, plus gamma^T r_T, less r_0. So the best policy is the one for that
    sum. Where an episode ends and gamma < 1, it need not be the best one for the levels: of two
    steps with the levels 1, 0 or 0, 1 and gamma = 0.7, the levels prefer the former, their
    differences the latter. Here that is wanted, since a run is judged by how it ends. It is
    potential-based shaping (Ng, Harada and Russell 1999) with P(s) = r(s) / (1 - gamma), which is
    not taken back at the end of an episode; taken back, it would keep the best policy.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._last: float | None = None
        self._first: float | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Resets."""
        self._last, self._first = self._first, None
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; the reward is the difference."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        difference = 0.0 if self._last is None else float(reward) - self._last
        self._last = float(reward)
        if self._first is None:
            self._first = self._last
        return observation, difference, terminated, truncated, info


class VecRewardDifferences(VecEnvWrapper):
    """`RewardDifferences` of many environments, member by member.

    Args:
        venv: Of which an episode's end is followed by the next one's first observation.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        # Not a number: there is none yet.
        self._last = np.full(self.num_envs, np.nan)
        self._first = np.full(self.num_envs, np.nan)

    def reset(self) -> VecEnvObs:
        """Resets all members."""
        self._begin_episodes(np.ones(self.num_envs, dtype=np.bool_))
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Steps; the rewards are the differences."""
        observations, rewards, ended, infos = self.venv.step_wait()
        differences = np.where(np.isnan(self._last), 0.0, rewards - self._last)
        self._last = rewards.astype(np.float64)
        self._first = np.where(np.isnan(self._first), rewards, self._first)
        self._begin_episodes(ended)
        return observations, differences.astype(np.float32), ended, infos

    def _begin_episodes(self, members: npt.NDArray[np.bool_]) -> None:
        self._last = np.where(members, self._first, self._last)
        self._first = np.where(members, np.nan, self._first)
