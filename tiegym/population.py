"""TiePopulation: many TieEnvs at once, whose transformers are trained in one batched computation.

What an action does, what is observed and what is rewarded is TieEnv's; how the transformers train
is in `tiegym.training.population`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import TieConfig, check_names
from tiegym.data.corpora import load_corpus
from tiegym.episode import Episode, begin_episode
from tiegym.info import episode_info, test_figures
from tiegym.population_copies import PopulationCopies
from tiegym.rewards import reward
from tiegym.spaces import make_action_space, make_observation_space, observe
from tiegym.specs import PlainSpec, parse_members, parse_mode
from tiegym.ties import Ties
from tiegym.training import parallel
from tiegym.training.entry import entry
from tiegym.training.population import Population
from tiegym.training.population_limits import check_population
from tiegym.training.population_stats import layer_stats, sample_weights
from tiegym.training.step_stats import Stopwatch, reset_peak_memory, step_stats
from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.isolation import isolated


class TiePopulation(PlainSpec, PopulationCopies):
    """`num_envs` TieEnvs whose transformers train together; spaces, rewards and infos are TieEnv's.

    Member n behaves as a TieEnv of the same arguments with its seed would, up to rounding: each has
    its own ties, batches, dropout and end, and one whose episode ends early is reset while the
    others go on.

    On a CPU it is faster than a loop or processes from about four members on, up to a width of
    about 64. From there on take `gymnasium.make_vec("TieEnv-v0", ..., vectorization_mode="async")`
    with a process a core; docs/populations.md has the figures.

    Args:
        num_envs: Members N.
        render_mode: None: there is nothing to see.
        autoreset_mode: NEXT_STEP: the step after an end begins the next episode, whatever its
            action, with reward 0, and trains nothing of that member. SAME_STEP: the last step of an
            episode returns the observation of the next one, and its own in `infos["final_obs"]`
            and `infos["final_info"]`.
        **config: The fields of `TieConfig`.

    Raises:
        ValueError: If an argument is invalid, or asks for what only TieEnv-v0 can do.
        OSError: If the corpus or the tokenizer can't be read.

    Examples:
        >>> import gymnasium, tiegym
        >>> envs = gymnasium.make_vec(
        ...     "TiePopulation-v0", num_envs=3, corpus="synthetic:40000", max_iters=8
        ... )
        >>> observations, infos = envs.reset(seed=0)
        >>> observations, rewards, terminated, truncated, infos = envs.step([1, 0, 1])
        >>> infos["ties"].shape, infos["n_independent"].tolist()
        ((3, 6), [2, 1, 2])
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    @fork_safe
    @isolated
    def __init__(
        self,
        num_envs: int,
        render_mode: None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **config: Any,
    ) -> None:
        """Validates the configuration and loads the corpus; weights come with the first step."""
        check_names(config, f"{type(self).__name__}.__init__()")
        if parallel.current_ranks() is not None:
            raise ValueError(
                "a population is trained by one process, and this one is of a process group of "
                "several ranks: start it without them (leave torchrun out), or take TieEnv-v0"
            )
        num_envs = parse_members(num_envs)
        if render_mode is not None:
            raise ValueError(f"render_mode={render_mode!r}: a population shows nothing; leave None")
        self.mode = parse_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.mode}
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.config = TieConfig(**config)
        check_population(self.config)  # before a text of another kind of model is read
        corpus = load_corpus(self.config.corpus, self.config.tokenizer)
        self._population = Population(self.config, corpus, num_envs)
        self.task = self._population.single.workload.task
        """What the transformers learn, with the facts of its data."""
        self.actions = Actions.of(self.config)
        """What actions mean."""
        self._first_ties = self.actions.initial_ties(self.config)
        self.single_action_space = make_action_space(self.config)
        self.single_observation_space = make_observation_space(self.config)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._episodes: list[Episode] = []
        self._streams: list[np.random.Generator | None] = [None] * num_envs
        self.reads_test = True
        """Whether the last step of an episode reads the test split; without it, the test figures
        stay infinite: for learning before the run that counts."""
        self.step_stats: dict[str, float | int | str] = {}
        """Seconds and peak memory of the last step of all members: what no two runs share."""

    # Gymnasium's interface

    @entry
    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode of every member; weights are built with the first step.

        Args:
            seed: A number s gives member n the seed s + n, a sequence each its own; see
                `TieEnv.reset`.
            options: None are known; must be empty.

        Raises:
            ValueError: If `options` isn't empty, or there are not as many seeds as members.
        """
        if options:
            raise ValueError(f"options={options!r}: TiePopulation.reset knows no options")
        if seed is None:
            seeds: list[Any] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer) and not isinstance(seed, bool):
            seeds = [int(seed) + n for n in range(self.num_envs)]
        else:
            given: Any = seed
            seeds = list(given) if np.ndim(given) == 1 else []
        if len(seeds) != self.num_envs or not all(map(_is_seed, seeds)):
            raise ValueError(
                f"seed={seed!r}: give one whole number, 0 or more, or {self.num_envs} of them, one "
                "a member; None goes on with the stream that is there"
            )
        for n, own in enumerate(seeds):
            if own is not None or self._streams[n] is None:
                self._streams[n], _ = np_random(None if own is None else int(own))
        self._episodes = [self._begin(n) for n in range(self.num_envs)]
        self.step_stats = {}
        return self._observations(), self._joined(self._rows(), {})

    @entry
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every member; see `autoreset_mode` for those whose episode has ended.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
            ValueError: If an action isn't in the action space.
            tiegym.training.out_of_memory.OutOfMemory: A MemoryError that names what to lower. Where
                there was no room for a change of ties, all episodes are over: reset.
        """
        self._known_episodes()
        given = np.asarray(actions)
        if given.dtype.kind not in "iu" or not self.action_space.contains(
            given.astype(self.action_space.dtype)
        ):
            raise ValueError(
                f"actions={actions!r} are not in {self.action_space}: {self.num_envs} actions of "
                f'action="{self.config.action}" with {self.config.n_layer} layers'
            )
        everyone = range(self.num_envs)
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        ended = [n for n in everyone if self._episodes[n].terminated]  # with NEXT_STEP alone
        for n in ended:
            self._episodes[n] = self._begin(n)
        if members := [n for n in everyone if n not in ended]:
            rewards[members] = self._advance(members, given[members])
        terminated = np.array([episode.terminated for episode in self._episodes])
        tests = self._tests(np.flatnonzero(terminated).tolist())
        rows = self._rows(tests)
        infos: dict[str, Any] = {}
        if self.mode is AutoresetMode.SAME_STEP and terminated.any():
            for n in np.flatnonzero(terminated).tolist():
                final = {
                    "final_obs": observe(self._episodes[n], self.config),
                    "final_info": rows[n],
                }
                infos = self._add_info(infos, final, n)
                self._episodes[n] = self._begin(n)
            rows = self._rows()
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        return self._observations(), rewards, terminated, truncated, self._joined(rows, infos)

    # Beyond step and reset

    @property
    def ties(self) -> Ties:
        """A copy of the tie vectors, int64 (N, L), or of those of both parts, (N, 2L)."""
        return np.array([episode.ties for episode in self._known_episodes()], dtype=np.int64)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The actions that differ from each other, member by member; see `TieEnv.action_masks`."""
        n_layer = self.config.n_layer
        return np.stack([self.actions.mask(e.unit(n_layer)) for e in self._known_episodes()])

    @entry
    def test_losses(self) -> list[float]:
        """Loss in nats a token of every member on the test split; see `TieEnv.test_loss`."""
        self._build()
        return self._clipped_test_losses(range(self.num_envs))

    # Inside

    def _begin(self, member: int) -> Episode:
        stream = self._streams[member]
        assert stream is not None
        seed, uniform = int(stream.integers(2**48)), self.task.uniform_loss
        return begin_episode(self.config, self.actions, self._first_ties, uniform, seed)

    def _build(self) -> None:
        """Makes the weights of all that have none yet."""
        new = {n: e.seed for n, e in enumerate(self._known_episodes()) if not e.started}
        if new:
            self._population.reset(new, dict.fromkeys(new, self._first_ties))
            for n in new:
                self._episodes[n].started = True

    def _advance(self, members: list[int], given: npt.NDArray[Any]) -> list[float]:
        """One environment step of some members; returns their rewards."""
        config, population = self.config, self._population
        self._build()
        actions, episodes = self.actions, [self._episodes[n] for n in members]
        shares = [self._independent_share(episode) for episode in episodes]
        choices = [
            actions.after(
                action,
                actions.choices(np.array(episode.ties), np.array(episode.frozen)),
                episode.unit(config.n_layer),
            )
            for action, episode in zip(given, episodes, strict=True)
        ]
        reset_peak_memory(population.device)
        watch = Stopwatch(population.device)
        wanted = [actions.ties_of(of_units) for of_units in choices]
        try:
            population.retie(
                {n: ties for n, (ties, _) in zip(members, wanted, strict=True)},
                {n: frozen for n, (_, frozen) in zip(members, wanted, strict=True)},
            )
        except BaseException:  # weights of one kind may have changed, and those of others not
            self._episodes = []
            population.forget()
            raise
        # In the episodes before anything else: what trains may fail after them.
        for episode, (ties, frozen) in zip(episodes, wanted, strict=True):
            episode.ties, episode.frozen = ties.tolist(), frozen.tolist()
        before = sample_weights(population, members)
        iterations = {
            n: min(config.iters_per_step, config.max_iters - self._episodes[n].iteration)
            for n in members
        }
        losses = population.train(iterations, {n: self._episodes[n].iteration for n in members})
        watch.mark()
        validation = population.validation_losses(members)
        watch.mark()
        stats = layer_stats(population, members, before).flatten(1)
        columns = [tensor.tolist() for tensor in (losses, validation, stats)]
        self.step_stats = step_stats(watch, max(iterations.values()))
        rewards = []
        for k, (n, episode) in enumerate(zip(members, episodes, strict=True)):
            previous_loss = episode.loss
            train_losses, loss, figures = (column[k] for column in columns)
            episode.advance(choices[k], train_losses[: iterations[n]], loss, figures, config)
            share = self._independent_share(episode)
            value = reward(
                config.reward, episode.loss, previous_loss, share, config.param_cost, shares[k]
            )
            rewards.append(value)
        return rewards

    def _independent_share(self, episode: Episode) -> float:
        ties = np.array(episode.ties)
        return parts.n_independent(ties, self.config.n_layer) / len(ties)

    def _clipped_test_losses(self, members: Sequence[int]) -> list[float]:
        ceiling = self.config.divergence_loss
        sound = [n for n in members if not self._episodes[n].diverged]
        measured = dict(
            zip(sound, self._population.test_losses(sound) if sound else [], strict=True)
        )
        found = [measured.get(n, ceiling) for n in members]
        return [loss if loss <= ceiling else ceiling for loss in found]

    def _tests(self, members: Sequence[int]) -> dict[int, dict[str, float]]:
        """The test figures of members whose episode has ended."""
        if not members or not self.reads_test:
            return {}
        found = zip(members, self._clipped_test_losses(members), strict=True)
        return {n: test_figures(loss, {}, self.config, self.task) for n, loss in found}

    def _observations(self) -> Any:
        space = self.single_observation_space
        single = [observe(episode, self.config) for episode in self._episodes]
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, single, empty)

    def _rows(self, tests: dict[int, dict[str, float]] | None = None) -> list[dict[str, Any]]:
        """The info of each member, with the test figures of some."""
        population, held = self._population, self._population.state_bytes()
        rows = []
        for n, episode in enumerate(self._episodes):
            if episode.iteration:
                state_bytes = held[n]
            else:  # as it will be after the first iteration
                state_bytes = population.expected_state_bytes(episode.ties, episode.frozen)
            info = episode_info(episode, population.single, self.actions, state_bytes)
            rows.append(info | (tests or {}).get(n, {}))
        return rows

    def _joined(self, rows: list[dict[str, Any]], infos: dict[str, Any]) -> dict[str, Any]:
        """Gymnasium's form of many infos: an array for each key, and `_key`, who has it."""
        for n, row in enumerate(rows):
            infos = self._add_info(infos, row, n)
        return infos


def _is_seed(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return value is None or (whole and value >= 0)
