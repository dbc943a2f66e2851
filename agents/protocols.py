"""What the learning agents share: the three protocols in which they are compared.

- online: the agent gets one training run and learns during it, so that its exploration costs
  perplexity.
- pretrained: it first learns over whole runs of other seeds, which are recorded nowhere but
  counted, and then plays one run greedily, without learning.
- tabulated: it first learns on a TieBench table, which trains nothing, and then plays one run
  greedily; see `agents.tabulated`.

Either way the run folder holds one run with the seed that was asked for and exactly as many
environment steps as any other policy gets. How an agent learns is in its own program, and is any
Stable-Baselines3 algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from agents.agent_options import AgentOptions
from agents.learning import learn
from agents.practice import pretrain_together
from agents.reward_differences import Env
from agents.table_options import check_run
from agents.tabulated import learn_for_run
from tiegym.runs.program import open_run, run_policy
from tiegym.runs.progress import ShowProgress
from tiegym.runs.replay import innermost

PRETRAINING_SEEDS = 2**32
"""Pretraining of seed n has seed `2**32 + n`: Stable-Baselines3 takes seeds below `2**32` only, so
no run that is reported has one of these."""


def train_agent(
    options: AgentOptions, program: str, make_model: Callable[[Env], BaseAlgorithm]
) -> Path:
    """Trains an agent under the protocol of its options; returns the run folder.

    The folder also gets the agent (see `agents.saved_agents`), the agent's own TensorBoard events
    (`agent/`), and in summary.json what it learned from before: `extra_iterations` if it was
    pretrained, `table`, `table_sha256` and `table_steps` if it learned on one.

    Args:
        options: The program's options.
        program: What the run folder is named after, such as "ppo".
        make_model: Makes the untrained agent for an environment, or for many: called once, and
            again where the agent goes from a table to another number of layers.

    Raises:
        InputError: See `tiegym.runs.program.open_run` and `agents.table_options.check_run`.
    """
    check_run(options)
    with open_run(options, program, protocol=options.protocol, **options.table_facts) as env:
        if options.protocol == "online":
            model = make_model(Monitor(env))
            learn(model, options.steps, options.seed, env.folder)
            return env.folder
        if options.table is not None:
            model = learn_for_run(options, program, env, make_model)
            env.note(table_steps=options.table_steps, **options.table_facts)
        elif options.envs > 1:
            seed = PRETRAINING_SEEDS + options.seed
            model, iterations = pretrain_together(options, program, env, make_model, seed)
            env.note(extra_iterations=iterations)
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


def kinds_on(env: Env) -> tuple[str, ...] | None:
    """The kinds of an environment's units, as of `tiegym.actions.Actions`; None if all are one.

    Args:
        env: A TieEnv, whatever wraps it. Many at once train our own transformer, and tables are of
            that, too: all its layers are of one kind.
    """
    if isinstance(env, VecEnv) or not env.has_wrapper_attr("actions"):
        return None
    return env.get_wrapper_attr("actions").kinds  # type: ignore[no-any-return]


class Practice(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts the iterations of runs that aren't reported; spares the test split, exports nothing.

    Args:
        env: A TieEnv, unwrapped or as `tiegym.runs.replay.innermost` gives it. It is as before once
            this is closed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
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

    def __init__(self, model: BaseAlgorithm, env: gymnasium.Env[Any, Any]) -> None:
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
