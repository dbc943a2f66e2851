"""The agent of the paper: online Q-learning with one small network, layer by layer.

    python -m agents.qlearning --seed 1

David-Hay and Wolf, *Dynamic Layer Tying for Parameter-Efficient Transformers*, ICLR 2024,
arXiv 2401.12819. The agent learns while the transformer trains: after each environment step it
makes one update from the transition just seen, with no replay and no target network. The research
code's two oddities, a reward clip and a bootstrap over the layer just decided, are options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn import functional as F

from agents.agent_options import AgentOptions
from agents.protocols import kinds_on, train_agent
from agents.qlearning_network import LayerPolicy, LayerQNetwork, check_layerwise
from agents.reward_differences import Env
from tiegym.runs.program import run_program

Bootstrap = Literal["next-layer", "same-layer"]

_CURSOR = ("layer", "part")
"""The entries of an observation that say whose turn it is."""


@dataclass(frozen=True)
class Options(AgentOptions):
    """Train a transformer under the paper's Q-learning agent."""

    learning_rate: float = 1e-3
    """Of the agent's AdamW."""
    weight_decay: float = 0.01
    """Of the agent's AdamW."""
    gamma: float = 0.99
    """Discount of the next decision's value."""
    epsilon_decay: float = 0.95
    """Exploration starts at probability 1 and is multiplied by this after each sweep."""
    epsilon_floor: float = 0.01
    """Exploration never falls below this probability."""
    bootstrap: Bootstrap = "next-layer"
    """Whose choices value the next state: those of the layer that is decided next, or those of
    the layer just decided, as in the research code."""
    reward_clip: float | None = None
    """Clip rewards into [-reward_clip, reward_clip]; the research code has 10."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {"envs": 10, "epsilon_decay": 0.998}

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the environment's actions aren't layerwise, or a value is out of range.
        """
        if self.env.action != "layerwise":
            raise ValueError(
                f"the paper's agent decides layer by layer, but env.action={self.env.action!r}: "
                'choose "layerwise"'
            )
        check_values(self)
        super().__post_init__()


class QLearning(DQN):
    """The paper's agent as a Stable-Baselines3 algorithm; needs layerwise actions.

    It is DQN with a buffer of one transition, batches of one, the mean squared error, AdamW, no
    gradient clipping, no target network, and an epsilon that falls sweep by sweep. With several
    environments both are as large as there are of them: a batch is drawn from the transitions just
    seen.

    Args:
        policy: "LayerPolicy".
        env: A TieEnv with action="layerwise", or a vector of them.
        bootstrap: "next-layer" values the next state by the choices of its own layer;
            "same-layer" by those of the layer just decided, as the research code does.
        reward_clip: Clip rewards into [-reward_clip, reward_clip]; None doesn't.
        weight_decay: Of AdamW.
        epsilon_decay: Factor of epsilon after each sweep of L-1 environment steps.
        epsilon_floor: Least epsilon.
        kinds: Of each unit, where only units of one kind may share weights; see
            `tiegym.actions.Actions`.
        **dqn: Further arguments of `stable_baselines3.DQN`, such as `seed` or `gamma`. Those of its
            target network, its exploration and its gradient clipping have no effect.

    Raises:
        ValueError: If the environment's spaces aren't those of layerwise actions, or an argument
            is out of range.

    Examples:
        >>> import gymnasium, tiegym
        >>> env = gymnasium.make("TieEnv-v0", corpus="synthetic:40000", max_iters=8)
        >>> model = QLearning("LayerPolicy", env, seed=0).learn(2)
        >>> model.num_timesteps
        2
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"LayerPolicy": LayerPolicy}
    action_space: spaces.Discrete
    replay_buffer: DictReplayBuffer
    q_net: LayerQNetwork

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        *,
        bootstrap: Bootstrap = "next-layer",
        reward_clip: float | None = None,
        weight_decay: float = 0.01,
        epsilon_decay: float = 0.95,
        epsilon_floor: float = 0.01,
        kinds: Sequence[str] | None = None,
        **dqn: Any,
    ) -> None:
        if env is not None and not isinstance(env, str):  # None while a saved agent is loaded
            check_layerwise(env.observation_space, env.action_space)
        self.bootstrap = bootstrap
        self.reward_clip = reward_clip
        self.epsilon_decay = epsilon_decay
        self.epsilon_floor = epsilon_floor
        check_values(self)
        paper: dict[str, Any] = {
            "learning_rate": 1e-3,
            "gamma": 0.99,
            "buffer_size": 1,
            "batch_size": 1,
            "learning_starts": 0,
            "train_freq": 1,
            "policy_kwargs": {
                "optimizer_class": torch.optim.AdamW,
                "optimizer_kwargs": {"weight_decay": weight_decay},
            },
        }
        given = paper | dqn
        given["policy_kwargs"] = {"kinds": kinds} | given["policy_kwargs"]
        super().__init__(policy, env, **given)

    def epsilon(self) -> float:
        """The probability of exploring at the present environment step."""
        turns = len(self.q_net.actions.turns)
        sweeps = self.num_timesteps // self.n_envs // turns
        return max(self.epsilon_floor, self.epsilon_decay**sweeps)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        result = super()._setup_learn(*args, **kwargs)
        self.exploration_rate = self.epsilon()
        return result

    def _on_step(self) -> None:
        """Takes the place of DQN's schedules: epsilon by sweep, no target network to update."""
        self.exploration_rate = self.epsilon()
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Epsilon-greedy, uniform over the choices that differ from each other.

        A uniform draw from the action space would make low layers independent nearly always.
        """
        greedy, state = self.policy.predict(observation, state, episode_start, deterministic=True)
        if deterministic:
            return greedy, state
        unit = np.reshape(observation["layer"], -1)
        if "part" in observation:
            unit = unit + self.q_net.actions.n_layer * np.reshape(observation["part"], -1)
        explore = np.random.rand(len(unit)) < self.exploration_rate
        allowed = [self.q_net.allowed[each] for each in unit]
        places = np.random.randint([len(each) for each in allowed])
        drawn = [each[place] for each, place in zip(allowed, places, strict=True)]
        return np.where(explore, drawn, greedy.ravel()).reshape(greedy.shape), state

    def train(self, gradient_steps: int, batch_size: int = 1) -> None:
        """One step of gradient descent on the squared TD error, for each of `gradient_steps`."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size * self.n_envs, self._vec_normalize_env)
            rewards = batch.rewards
            if self.reward_clip is not None:
                rewards = rewards.clamp(-self.reward_clip, self.reward_clip)
            following = dict(batch.next_observations)
            if self.bootstrap == "same-layer":
                following |= {k: v for k, v in batch.observations.items() if k in _CURSOR}
            with torch.no_grad():
                best = self.q_net(following).amax(dim=1, keepdim=True)
                targets = rewards + (1 - batch.dones) * self.gamma * best
            values = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = F.mse_loss(values, targets)
            losses.append(loss.item())
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))


def check_values(agent: Options | QLearning) -> None:
    """Refuses values that mean nothing.

    Raises:
        ValueError: If one is out of range.
    """
    if agent.bootstrap not in get_args(Bootstrap):
        known = ", ".join(get_args(Bootstrap))
        raise ValueError(f"bootstrap={agent.bootstrap!r} is unknown: choose one of {known}")
    if agent.reward_clip is not None and not 0 < agent.reward_clip < float("inf"):
        raise ValueError(f"reward_clip={agent.reward_clip} must be positive, or None for no clip")
    for name in ("epsilon_decay", "epsilon_floor"):
        if not 0 <= getattr(agent, name) <= 1:
            raise ValueError(f"{name}={getattr(agent, name)} must be in [0, 1]")


def make_model(options: Options, env: Env) -> QLearning:
    """The untrained agent. It learns from the rewards as they are, as the paper's does."""
    return QLearning(
        "LayerPolicy",
        env,
        bootstrap=options.bootstrap,
        reward_clip=options.reward_clip,
        weight_decay=options.weight_decay,
        epsilon_decay=options.epsilon_decay,
        epsilon_floor=options.epsilon_floor,
        learning_rate=options.learning_rate,
        gamma=options.gamma,
        kinds=kinds_on(env),
        seed=options.seed,
        device="cpu",  # for so small a network a GPU is slower
    )


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    return train_agent(options, "qlearning", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    # By its full name, so that agent.zip refers to agents.qlearning and not to __main__, where
    # no other program would find the agent's classes.
    from agents.qlearning import main as program

    program()
