"""Learning on a TieBench table: the protocol "tabulated", and agents without a run folder.

A decision on a table costs microseconds, so that what counts is the agent's own time: members
decide together, and each transition is learnt from less often than in a run that trains. Members
play recorded runs of the table's split "train". See `docs/tiebench.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from agents.agent_options import AgentOptions
from agents.learning import Checkpoints, OnEachStep, learn, learn_steps, rollout_length
from agents.reward_differences import Env
from tiegym.bench.vector import TieBenchVector
from tiegym.runs.progress import Progress
from tiegym.runs.recorder import RecordRun
from tiegym.vec_env import as_vec_env

LOGGED = 200
"""TensorBoard events over the whole learning."""


class TablePolicy:
    """An agent that always takes the action that it holds for the best, for one run or for many.

    Args:
        model: The agent itself: if it goes on learning, this policy changes with it.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The best actions, and a recurrent agent's next hidden state.

        Args:
            observation: Of TieBench-v0 or TieEnv with layerwise actions, or of a vector of them:
                arrays with another axis (B, ...) in front.
            state: What the last call returned; None at the first.
            episode_start: Whether an episode begins, bool (B,); a recurrent agent needs it.
            deterministic: Asked for or not, nothing is drawn.
        """
        masks = {}
        if isinstance(self.model, MaskablePPO):
            n_layer = np.shape(observation["ties"])[-1]
            layer = np.reshape(observation["layer"], (-1, 1))
            masks["action_masks"] = np.arange(n_layer) <= layer  # as TieEnv.action_masks
        return self.model.predict(observation, state, episode_start, deterministic=True, **masks)


def learn_on_table(
    options: AgentOptions,
    make_model: Callable[[Any, VecEnv], BaseAlgorithm],
    checkpoints: Sequence[int] = (),
    on_checkpoint: Callable[[int, TablePolicy], None] = lambda decisions, policy: None,
) -> TablePolicy:
    """Lets an agent learn on a table, and shows it on the way; writes nothing.

    `options.envs` members play recorded runs of the split "train", drawn anew for each episode, and
    their rewards are those of `options.env.reward` and `param_cost`. They take exactly
    `options.table_steps` decisions together; each number of decisions below counts those of all
    members. The same options give the same agent.

    Args:
        options: Of the agent's program, as `Options.for_table` makes them. All random draws come
            from `seed`; it chooses no recorded run.
        make_model: The program's: makes the untrained agent from these options and an environment.
        checkpoints: Numbers of decisions, ascending; each a multiple of `options.envs`, and at most
            `options.table_steps`.
        on_checkpoint: Called with each of them and the policy as it is by then. What full rollouts
            up to there held has been learnt from; a rollout that has only begun has not. It must
            draw nothing from NumPy's, Python's or PyTorch's global generators, and not keep the
            policy for later, since it goes on learning.

    Returns:
        The policy after all decisions.

    Raises:
        ValueError: If the options have no table, or a checkpoint is none.
    """
    if options.table is None:
        raise ValueError("table=None: make the options with Options.for_table(table, ...)")
    for last, number in zip((0, *checkpoints), checkpoints, strict=False):
        if not last < number <= options.table_steps or number % options.envs:
            raise ValueError(
                f"checkpoints={[*checkpoints]} must be ascending multiples of envs={options.envs}, "
                f"up to total_steps={options.table_steps}"
            )
    model = make_model(options, members(options))
    policy = TablePolicy(model)
    show = Checkpoints(checkpoints, rollout_length(model), lambda n: on_checkpoint(n, policy))
    learn_steps(model, options.table_steps, options.seed, [show])
    return policy


def members(options: AgentOptions, leave_out: int | None = None) -> VecEnv:
    """The recorded runs that an agent learns on.

    Args:
        options: With a table.
        leave_out: A recorded seed that no member plays.

    Raises:
        ValueError: If no recorded run would be left.
    """
    assert options.table is not None
    many = TieBenchVector(
        options.envs,
        options.table,
        "train",
        options.env.reward,
        options.env.param_cost,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    if leave_out is not None:
        many.recorded.leave_out(leave_out)
    return VecMonitor(as_vec_env(many))


def learn_for_run(
    options: AgentOptions,
    program: str,
    run: RecordRun,
    make_model: Callable[[Env], BaseAlgorithm],
) -> BaseAlgorithm:
    """The agent of a run that is about to be recorded; its folder gets it.

    The recorded run of the same seed, if the table has one, isn't played: the agent meets it for
    the first time when it counts. A run that is resumed learns again, which gives the same agent.

    Args:
        options: Of the program.
        program: Its name, for the progress.
        run: The run.
        make_model: See `agents.protocols.train_agent`.
    """
    steps = options.table_steps
    stop = run.get_wrapper_attr("journal").stop
    progress = Progress(steps, f"{program}: table", options.quiet, unit="decisions")

    def after_each_step(done: int) -> None:
        progress.update(done)
        stop()

    with closing(progress):
        model = make_model(members(options, leave_out=options.seed))
        every = max(rollout_length(model), steps // LOGGED)
        learn(model, steps, options.seed, run.folder, [OnEachStep(after_each_step)], every)
    if model.observation_space == run.observation_space:
        return model
    there = make_model(run)  # of another number of layers, with the same weights
    there.policy.load_state_dict(model.policy.state_dict())
    return there
