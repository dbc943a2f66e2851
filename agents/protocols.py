"""What the learning agents share: the two protocols in which they are compared.

- online: the agent gets one training run and learns during it, so that its exploration costs
  perplexity.
- pretrained: it first learns over whole runs of other seeds, which are recorded nowhere but
  counted, and then plays one run greedily, without learning.

Either way the run folder holds one run with the seed that was asked for and exactly as many
environment steps as any other policy gets. How an agent learns is in its own program, and is any
Stable-Baselines3 algorithm.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, LogEveryNTimesteps
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.ranges import check_ranges
from agents.saved_agents import save_agent
from tiegym.runs import tensorboard_log
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy
from tiegym.runs.progress import ShowProgress
from tiegym.runs.replay import innermost

Env: TypeAlias = gymnasium.Env[Any, Any]

PRETRAINING_SEEDS = 2**32
"""Pretraining of seed n has seed `2**32 + n`: Stable-Baselines3 takes seeds below `2**32` only, so
no run that is reported has one of these."""


@dataclass(frozen=True)
class AgentOptions(RunOptions):
    """The options that all learning agents have."""

    pretrain_runs: int = 0
    """Whole training runs, of other seeds, over which the agent learns first; then it plays the
    recorded run greedily and learns no more. 0: it learns during the recorded run."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        check_ranges(self)
        if self.pretrain_runs < 0:
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} must be a number of training runs, 0 or more"
            )

    @property
    def protocol(self) -> str:
        """Online or pretrained."""
        return "pretrained" if self.pretrain_runs else "online"

    @property
    def pretraining_steps(self) -> int:
        """Environment steps before the recorded run."""
        return self.pretrain_runs * self.env.steps_per_episode

    @property
    def all_steps(self) -> int:
        """Environment steps, those before the recorded run included."""
        return self.pretraining_steps + self.steps


@dataclass(frozen=True)
class CriticOptions(AgentOptions):
    """The options of agents that learn values."""

    reward_differences: bool = True
    """Learn from the change of the reward from step to step, not from its level; see
    `agents.protocols.RewardDifferences`."""


def train_agent(
    options: AgentOptions, program: str, make_model: Callable[[Env], BaseAlgorithm]
) -> Path:
    """Trains an agent under the protocol of its options; returns the run folder.

    The folder also gets the agent (see `agents.saved_agents`), the agent's own TensorBoard events
    (`agent/`), and in summary.json, if it was pretrained, the `extra_iterations` that this took.

    Args:
        options: The program's options.
        program: What the run folder is named after, such as "ppo".
        make_model: Makes the untrained agent for an environment; called once.
    """
    with open_run(options, program, protocol=options.protocol) as env:
        if options.protocol == "online":
            model = make_model(Monitor(env))
            learn(model, options.steps, options.seed, env.folder)
        else:
            # The same environment, without what makes rows: its memory and compiled code serve
            # twice.
            practice = Practice(innermost(env))
            steps = options.pretraining_steps
            shown = ShowProgress(practice, steps, f"{program}: pretraining", options.quiet)
            model = make_model(Monitor(shown))
            learn(model, steps, PRETRAINING_SEEDS + options.seed, env.folder)
            shown.close()
            env.note(extra_iterations=practice.iterations)
            run_policy(env, Greedy(model, env), options.seed, options.steps)
    return env.folder


def learn(model: BaseAlgorithm, steps: int, seed: int, folder: Path) -> None:
    """Lets an agent learn for exactly so many environment steps, then saves it.

    Args:
        model: Untrained, with an environment.
        steps: Environment steps.
        seed: Of the environment's first reset, whatever the agent's own seed is.
        folder: Gets the agent (see `agents.saved_agents`) and, in `agent/`, the agent's TensorBoard
            events.
    """
    model.get_env().seed(seed)  # type: ignore[union-attr]
    # A resumed run logs again what it logged before it was cut off.
    shutil.rmtree(folder / "agent", ignore_errors=True)
    events = ["tensorboard"] if tensorboard_log.can_write(folder) else []
    model.set_logger(configure(str(folder / "agent"), events))
    rollout = rollout_length(model)
    callbacks: list[BaseCallback] = [StopAfter(steps, rollout), LogEveryNTimesteps(rollout)]
    model.learn(steps, callbacks, log_interval=None)  # type: ignore[arg-type]
    model.logger.dump(model.num_timesteps)  # what the last update logged
    model.logger.close()
    save_agent(model, folder)


def rollout_length(model: BaseAlgorithm) -> int:
    """Environment steps between updates of a Stable-Baselines3 agent."""
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_steps
    assert isinstance(model, OffPolicyAlgorithm)
    every = model.train_freq
    return every if isinstance(every, int) else int(every[0])


class StopAfter(BaseCallback):
    """Ends learning in the middle of a rollout, where the algorithm would complete it.

    Args:
        steps: Environment steps after which learning ends.
        rollout: Environment steps in a rollout.
    """

    def __init__(self, steps: int, rollout: int) -> None:
        super().__init__()
        self.steps = steps
        self.rollout = rollout

    def _on_step(self) -> bool:
        # A rollout that a callback ends isn't learnt from. One that is full ends by itself.
        return self.num_timesteps < self.steps or self.num_timesteps % self.rollout == 0


class Practice(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts the iterations of runs that aren't reported; spares the test split, exports nothing.

    Args:
        env: A TieEnv, unwrapped or as `tiegym.runs.replay.innermost` gives it. It is as before once
            this is closed.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.iterations = 0
        """Trained so far, over all episodes."""
        self._before = 0
        # The last step of an episode reads the test split, which only the reported run may; and
        # only its model is exported.
        self.unwrapped.test_metrics = dict  # type: ignore[attr-defined]
        self.unwrapped.export = lambda path: None  # type: ignore[attr-defined]

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Resets."""
        self._before = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps and counts."""
        result = self.env.step(action)
        iteration = result[4]["iteration"]
        self.iterations += iteration - self._before
        self._before = iteration
        return result

    def close(self) -> None:
        """Gives the test split and the export back; the environment stays open."""
        del self.unwrapped.test_metrics  # type: ignore[attr-defined]
        del self.unwrapped.export  # type: ignore[attr-defined]


class Greedy:
    """A trained agent as a policy that takes its best action, asked for it or not.

    Args:
        model: The agent. If it is mask-aware, it gets the masks.
        env: The environment that is stepped with the actions.
    """

    def __init__(self, model: BaseAlgorithm, env: Env) -> None:
        self.model = model
        self.env = env

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The best action, and a recurrent agent's next hidden state."""
        masks = {}
        if isinstance(self.model, MaskablePPO):
            masks["action_masks"] = get_action_masks(self.env)
        return self.model.predict(observation, state, episode_start, deterministic=True, **masks)


def level_free(env: Env, options: CriticOptions) -> Env:
    """The environment as an agent learns from it: with `RewardDifferences`, if asked for.

    Rewards named "delta_..." are differences already, and stay as they are.
    """
    if options.reward_differences and not options.env.reward.startswith("delta_"):
        return RewardDifferences(env)
    return env


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

    def __init__(self, env: Env) -> None:
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
