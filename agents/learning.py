"""How an agent of Stable-Baselines3 learns for exactly so many environment steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, LogEveryNTimesteps
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.saved_agents import save_agent
from tiegym.runs import tensorboard_log


def learn(
    model: BaseAlgorithm,
    steps: int,
    seed: int,
    folder: Path,
    callbacks: Sequence[BaseCallback] = (),
    log_every: int | None = None,
) -> None:
    """Lets an agent learn for exactly so many environment steps, then saves it.

    Args:
        model: Untrained, with an environment.
        steps: Environment steps.
        seed: Of the environment's first reset, whatever the agent's own seed is.
        folder: Gets the agent (see `agents.saved_agents`) and, in `agent/`, the agent's TensorBoard
            events.
        callbacks: Called while it learns.
        log_every: Environment steps between two events; None is a rollout.
    """
    # A resumed run logs again what it logged before it was cut off.
    shutil.rmtree(folder / "agent", ignore_errors=True)
    events = ["tensorboard"] if tensorboard_log.can_write(folder) else []
    model.set_logger(configure(str(folder / "agent"), events))
    log = LogEveryNTimesteps(log_every or rollout_length(model))
    learn_steps(model, steps, seed, [log, *callbacks])
    model.logger.dump(model.num_timesteps)  # what the last update logged
    model.logger.close()
    save_agent(model, folder)


def learn_steps(
    model: BaseAlgorithm, steps: int, seed: int, callbacks: Sequence[BaseCallback] = ()
) -> None:
    """Lets an agent learn for exactly so many environment steps; arguments as of `learn`."""
    model.get_env().seed(seed)  # type: ignore[union-attr]
    stop = StopAfter(steps, rollout_length(model))
    model.learn(steps, [stop, *callbacks], log_interval=None)  # type: ignore[arg-type]


def rollout_length(model: BaseAlgorithm) -> int:
    """Environment steps between updates of a Stable-Baselines3 agent, over all its members."""
    if isinstance(model, OnPolicyAlgorithm):
        return model.n_steps * model.n_envs
    assert isinstance(model, OffPolicyAlgorithm)
    every = model.train_freq
    return (every if isinstance(every, int) else int(every[0])) * model.n_envs


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


class Checkpoints(BaseCallback):
    """Calls a function when some numbers of environment steps have been taken and learnt from.

    Args:
        steps: The numbers, ascending.
        rollout: Environment steps in a rollout. One that is full is learnt from before the call.
        reached: Called with each number.
    """

    def __init__(self, steps: Sequence[int], rollout: int, reached: Callable[[int], None]) -> None:
        super().__init__()
        self.left = list(steps)
        self.rollout = rollout
        self.reached = reached

    def _on_step(self) -> bool:
        if self.num_timesteps % self.rollout:
            self._look()
        return True

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        self._look()

    def _look(self) -> None:
        if self.left and self.num_timesteps >= self.left[0]:
            self.reached(self.left.pop(0))


class OnEachStep(BaseCallback):
    """Calls a function after each step of all members.

    Args:
        call: Gets the number of environment steps so far; may raise.
    """

    def __init__(self, call: Callable[[int], None]) -> None:
        super().__init__()
        self.call = call

    def _on_step(self) -> bool:
        self.call(self.num_timesteps)
        return True
