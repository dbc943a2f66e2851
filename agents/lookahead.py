"""One-step lookahead: tries the candidate actions on copies of the run, then takes the best one.

    python -m agents.lookahead --seed 1
    python -m agents.lookahead --candidates 3 --horizon 4

A copy goes on exactly as the run would: it sees the same batches and the same dropout, and is
judged on the same validation batches. So what is found is not an estimate, and this is an upper
reference for policies that decide one step at a time; it says nothing of plans over many steps.
It is no fair competitor: the iterations that the copies trained are `extra_iterations` in
summary.json, and a comparison prints them beside the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from tiegym import parts
from tiegym.actions import Actions
from tiegym.policies.fixed import FixedTies
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.runs.record_checks import check_numbers
from tiegym.ties import Ties

JOINT_CANDIDATES = 16
"""Tie vectors tried at each step of action="joint" when `candidates` is None."""


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under one-step lookahead."""

    horizon: int = 1
    """Environment steps of a trial: the action, then no further change."""
    candidates: int | None = None
    """Different outcomes tried at each step, a random choice that always has the present state
    among it; None is all of them (with env.action=joint, where there are too many, 16)."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        if self.horizon < 1:
            raise ValueError(f"horizon={self.horizon} must be at least 1 environment step")
        if self.candidates is not None and self.candidates < 2:
            raise ValueError(
                f"candidates={self.candidates} must be at least 2: one of them is to change nothing"
            )


def _now(compute: Callable[[], Any], check: Callable[[Any], object]) -> Any:
    """What a function returns, where no run is recorded."""
    return compute()


class Lookahead:
    """The policy that tries actions on forks of an environment and takes the best.

    The best action has the highest mean reward over its trial. Where several have the same, the
    one with the fewest independent layers wins, and among these the one that changes nothing.

    Args:
        env: The environment that is stepped with the actions; observations must come from it.
        horizon: Environment steps of a trial.
        candidates: Outcomes tried at each step; None is all, or `JOINT_CANDIDATES`.
        seed: Of its own generator; the environment's is not touched.
        once: Calls a function, or returns what it returned before the run was cut off; see
            `tiegym.runs.replay.Resumable.once`.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        horizon: int = 1,
        candidates: int | None = None,
        seed: int = 0,
        once: Callable[[Callable[[], Any], Callable[[Any], object]], Any] = _now,
    ) -> None:
        """Remembers the environment; nothing is tried yet."""
        self.env: Any = env.unwrapped
        self.horizon = horizon
        self.candidates = candidates
        self.once = once
        self.rng = np.random.default_rng((seed, 1))  # a stream apart from the environment's
        self.extra_iterations = 0
        """Iterations that the forks have trained so far."""

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The action that does best on a fork; the same in deterministic mode."""
        choices = self.choices(observation)
        if len(choices) == 1:
            return choices[0][0], None
        before = self.extra_iterations

        def tried() -> tuple[list[float], int]:
            rewards = [self.trial(action, after, observation) for action, after in choices]
            return rewards, self.extra_iterations - before

        def check(value: Any) -> None:
            rewards, iterations = value
            check_numbers([*rewards, iterations], len(choices) + 1)

        rewards, iterations = self.once(tried, check)
        self.extra_iterations = before + iterations
        # The first of equals wins, and the present state comes first.
        best = max(
            range(len(choices)),
            key=lambda k: (rewards[k], -self._n_independent(choices[k][1])),
        )
        return choices[best][0], None

    @property
    def actions(self) -> Actions:
        """What the environment's actions mean."""
        actions: Actions = self.env.actions
        return actions

    def choices(self, observation: dict[str, Any]) -> list[tuple[Any, Ties]]:
        """The actions to try and the choices they lead to; the first changes nothing.

        Choices are as in `tiegym.actions`: tie vectors, where nothing can be frozen. Those with
        equal roots share the same weights and train alike, so one of them is enough: the one with
        the lowest target, which is the root itself, or the present one.
        """
        different: dict[tuple[int, ...], tuple[Any, Ties]] = {}
        for action, after in self._actions(observation):
            ties, frozen = self.actions.ties_of(after)
            roots = parts.roots(ties, self.actions.n_layer)
            different.setdefault((*roots.tolist(), *frozen.tolist()), (action, after))
        present, *others = different.values()
        if self.candidates is not None and len(others) >= self.candidates:
            drawn = self.rng.choice(len(others), self.candidates - 1, replace=False)
            others = [others[k] for k in sorted(drawn)]
        return [present, *others]

    def _actions(self, observation: dict[str, Any]) -> Iterator[tuple[Any, Ties]]:
        actions, unit = self.actions, self.actions.cursor(observation)
        present = actions.choices(observation["ties"], observation.get("frozen"))
        if actions.kind == "joint":
            yield actions.choose_all(present), present
            for _ in range((self.candidates or JOINT_CANDIDATES) - 1):
                drawn = actions.draw(self.rng)
                yield actions.choose_all(drawn), drawn
            return
        yield actions.choose(unit, int(present[unit])), present  # changes nothing
        for other in (unit,) if actions.kind == "layerwise" else range(actions.n_units):
            for choice in range(actions.n_choices[other]):
                action = actions.choose(other, choice)
                yield action, actions.after(action, present, unit)

    def _n_independent(self, choices: Ties) -> int:
        ties, _ = self.actions.ties_of(choices)
        return parts.n_independent(ties, self.actions.n_layer)

    def trial(self, action: Any, after: Ties, observation: dict[str, Any]) -> float:
        """Mean reward of an action over `horizon` steps of a fork, or up to the episode's end.

        The mean, not the sum: a trial that diverges ends early, and must not win by that.

        Args:
            action: The first action.
            after: The choices that it leads to, kept by the actions that follow, (P L,).
            observation: Before the action.
        """
        fork = self.env.fork()
        fork.render_mode = None
        # The last step of an episode reads the test split, which only the run itself may.
        fork.test_metrics = dict
        ties, frozen = self.actions.ties_of(after)
        hold = FixedTies(ties, fork.action_space, frozen)
        max_iters = self.env.config.max_iters
        start = round(float(observation["budget"][0]) * max_iters)
        rewards = []
        for _ in range(self.horizon):
            observation, reward, terminated, _, info = fork.step(action)
            rewards.append(float(reward))
            if terminated:
                break
            action, _ = hold.predict(observation)
        self.extra_iterations += info["iteration"] - start
        return sum(rewards) / len(rewards)


def train(options: Options) -> Path:
    """Trains under lookahead; returns the run folder."""
    with open_run(options, "lookahead", protocol="online") as env:
        once = env.get_wrapper_attr("once")
        policy = Lookahead(env, options.horizon, options.candidates, options.seed, once)
        run_policy(env, policy, options.seed, options.steps)
        env.note(extra_iterations=policy.extra_iterations)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
