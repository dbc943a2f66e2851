"""Pretraining on many transformers that are trained together, before the run that is recorded.

What they answer goes into the run's journal, so that a run that was cut off goes on from there. See
`tiegym.runs.journal` and `tiegym.population`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from agents.agent_options import AgentOptions
from agents.learning import OnEachStep, learn
from agents.reward_differences import Env
from tiegym.population import TiePopulation
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.progress import Progress
from tiegym.runs.recorder import RecordRun
from tiegym.runs.replay import Answers, check_info, check_observation
from tiegym.vec_env import as_vec_env


class PracticeMembers(VecEnvWrapper):
    """Members of a population: their answers are kept in a journal, their iterations counted.

    As long as answers come from the journal, nothing is trained.

    Args:
        population: With autoreset mode SAME_STEP.
        answers: Of it, by the journal of the run.
    """

    def __init__(self, population: TiePopulation, answers: Answers) -> None:
        super().__init__(as_vec_env(population))
        self.population = population
        self.answers = answers
        self.iterations = 0
        """Trained so far, over all members and episodes."""
        self._before = np.zeros(self.num_envs, dtype=np.int64)
        self._masks: npt.NDArray[np.bool_] | None = None
        self._asked: npt.NDArray[Any] = np.zeros(0)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Gives member n the seed s + n 2^32: no two numbers s below have a run in common."""
        if seed is None:
            return self.venv.seed()
        seeds = [seed + n * 2**32 for n in range(self.num_envs)]
        self.venv._seeds = list(seeds)
        return seeds

    def reset(self) -> VecEnvObs:
        """Resets all members, or returns what this reset returned before."""
        asked = {"seeds": list(self.venv._seeds)}

        def compute() -> Any:
            return self.venv.reset(), self.population.action_masks()

        observations, self._masks = self.answers.answer(
            "reset members", asked, compute, self._check_reset
        )
        self._before[:] = 0
        return observations  # type: ignore[no-any-return]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keeps the actions until `step_wait`."""
        self._asked = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all members, or returns what this step returned before."""

        def compute() -> Any:
            observations, rewards, ended, infos = self.venv.step(self._asked)
            return observations, rewards, ended, tuple(infos), self.population.action_masks()

        observations, rewards, ended, infos, self._masks = self.answers.answer(
            "step members", self._asked, compute, self._check_step
        )
        self.answers.steps += self.num_envs
        iteration = np.array([info["iteration"] for info in infos])
        self.iterations += int((iteration - self._before).sum())
        self._before = np.where(ended, 0, iteration)
        return observations, rewards, ended, list(infos)

    def _check_reset(self, answer: Any) -> None:
        observations, masks = answer
        check_observation(self.population.observation_space, observations)
        if len(masks) != self.num_envs:
            raise ValueError(f"{len(masks)} masks of {self.num_envs} members")

    def _check_step(self, answer: Any) -> None:
        observations, rewards, ended, infos, masks = answer
        self._check_reset((observations, masks))
        if not np.shape(rewards) == np.shape(ended) == (len(infos),) == (self.num_envs,):
            raise ValueError("it isn't of all members")
        for info in infos:
            check_info(info)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """The masks of the last answer, which is all that an agent asks for."""
        if method_name != "action_masks" or self._masks is None:
            raise AttributeError(f"{method_name}: pretraining answers action_masks alone")
        return [self._masks[k] for k in self._get_indices(indices)]


def pretrain_together(
    options: AgentOptions,
    program: str,
    run: RecordRun,
    make_model: Callable[[Env], BaseAlgorithm],
    seed: int,
) -> tuple[BaseAlgorithm, int]:
    """The agent that learned from `options.envs` runs at a time, and the iterations behind it.

    Args:
        options: Of the program.
        program: Its name, for the progress.
        run: What is about to be recorded; its folder gets the agent.
        make_model: See `agents.protocols.train_agent`.
        seed: Of the first member's first episode.

    Raises:
        InputError: If there can be no such population.
    """
    with as_input_errors():
        population = TiePopulation(
            options.envs,
            autoreset_mode=AutoresetMode.SAME_STEP,
            **dataclasses.asdict(options.env),
        )
    population.reads_test = False  # which only the reported run may
    journal = run.get_wrapper_attr("journal")
    every = options.checkpoint_every_steps, options.checkpoint_every_minutes
    members = PracticeMembers(population, Answers(journal, population, *every))
    steps = options.pretraining_steps
    progress = Progress(
        options.pretrain_runs * options.env.max_iters,
        f"{program}: pretraining",
        options.quiet,
    )
    with closing(progress):
        model = make_model(VecMonitor(members))
        shown = OnEachStep(lambda _: progress.update(members.iterations))
        learn(model, steps, seed, run.folder, [shown])
    return model, members.iterations
