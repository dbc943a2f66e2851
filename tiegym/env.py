"""TieEnv: an agent decides, while a transformer trains, which of its layers share weights.

The environment joins a trainer, a corpus and a reward, and turns actions into tie vectors. What
each of them does is in its own module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
import torch

from tiegym import parts
from tiegym.actions import Actions, Frozen
from tiegym.config import TieConfig, check_call
from tiegym.copies import Copies
from tiegym.data.corpora import Corpus
from tiegym.data.tasks.task import Task
from tiegym.episode import Episode, begin_episode
from tiegym.info import step_info
from tiegym.measured import Measured
from tiegym.rewards import reward
from tiegym.shown import Shown
from tiegym.spaces import make_action_space, make_observation_space, observe
from tiegym.specs import PlainSpec
from tiegym.ties import Ties
from tiegym.training import collectives, parallel
from tiegym.training.depths import read_depths
from tiegym.training.entry import entry
from tiegym.training.load import load_data
from tiegym.training.step_stats import Stopwatch, reset_peak_memory, step_stats
from tiegym.training.trainer import Trainer
from tiegym.training.workload import Workload
from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.isolation import isolated
from tiegym.transformer.layer_stats import layer_stats, sample_weights
from tiegym.transformer.position_gradients import position_figures, positions_for
from tiegym.transformer.tied_model import TiedModel

Observation: TypeAlias = dict[str, Any]


class TieEnv(PlainSpec, Shown, Measured, Copies):
    """A training run of one transformer as an episode.

    An environment step takes an action that changes the tie vector, runs `iters_per_step`
    training iterations, and evaluates on fixed validation batches.

    **Action space**, by `action`; every action is valid:

    - "layerwise": `Discrete(L)`, for the layer under the cursor i (1, 2, ..., L-1, then 1 again):
      a < i ties it to layer a, a >= i makes it independent.
    - "pair": `Discrete(L (L+1) / 2)`, the triangular index of (layer i, target j <= i).
    - "joint": `MultiDiscrete([2, 3, ..., L])`, the targets of layers 1 to L-1 at once.

    With `tie_parts="attention+mlp"` the cursor goes (1, attention), (1, MLP), (2, attention), ...;
    pairs of the MLP come behind those of the attention, as do the entries of "joint". With
    `choices="tie+freeze"` layer 0 has a turn, too, and each layer one choice more, to keep weights
    of its own that train no more: action L of "layerwise", indices L (L+1) / 2 + i behind the
    pairs, i + 1 in "joint", which then begins with layer 0.

    Where a model has layers of different kinds of attention (`config.layer_types` of the library
    `transformers`), only those of one kind can share weights. An action that names a layer of
    another kind then means the layer of the own kind, of those before, that is nearest to the one
    named; or independence, if there is none. The mask has no such action.

    **Observation space**: a `Dict` of

    - `ties`: the tie vector, int16 (L,); or that of the attention and that of the MLP, (2L,).
    - `layer`: the cursor, an int; 0 where the action names the layer itself.
    - `budget`: share of the iterations used, float32 (1,).
    - `loss`: last training and validation loss in nats, float32 (2,); before the first step that
      of a uniform guess twice, such as ln(vocabulary size).
    - `layer_stats`: float32 (L * F,), layer by layer the figures that `features` names, see
      `tiegym.features`; zero before the first step. Of parts: (2L * F,).
    - `part`, with `tie_parts="attention+mlp"` alone: 0 where the cursor is on an attention, 1 on
      an MLP.
    - `frozen`, with `choices="tie+freeze"` alone: 1 for what trains no more, int8 (L,) or (2L,).

    **Reward**: see `tiegym.rewards`. **End**: `terminated` at the end of the budget, or when the
    loss diverges (`info["diverged"]`); never `truncated`.

    Where PyTorch has a process group of several ranks (`torch.distributed`), each has an
    environment of the same arguments, and they train one transformer, each on its share of every
    batch. Then all make the same calls, in the same order; the actions are those of rank 0.

    Args:
        render_mode: None, "ansi", "human" or "rgb_array".
        **config: The fields of `TieConfig`.

    Raises:
        ValueError: If an argument is invalid, or the corpus too small for the sizes; if ranks
            disagree about them, or `batch_size` can't be divided among them.
        OSError: If the corpus, the tokenizer or a pretrained model can't be read.
        ImportError: If the model is of a library that isn't installed.

    Examples:
        >>> import gymnasium, tiegym
        >>> env = gymnasium.make("TieEnv-v0", corpus="synthetic:40000", max_iters=8)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(1)
        >>> info["ties"].tolist(), info["iteration"]
        ([0, 1, 0, 0, 0, 0], 4)
    """

    metadata = {"render_modes": ["ansi", "human", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    @fork_safe
    @isolated
    def __init__(
        self, render_mode: Literal["ansi", "human", "rgb_array"] | None = None, **config: Any
    ) -> None:
        """Validates the configuration and loads the corpus; weights come with the first step."""
        check_call(type(self).__name__, render_mode, self.metadata["render_modes"], config)
        self.render_mode = render_mode
        self.config = TieConfig(**config)
        self._trainer = Trainer(self.config, load_data(self.config))
        workload = self._trainer.workload
        self.task: Task = workload.task
        """What the transformer learns, with the facts of its data."""
        self.actions = Actions.of(self.config, workload.kinds)
        """What actions mean."""
        self._first_ties = self.actions.initial_ties(self.config)
        self.action_space = make_action_space(self.config)
        self.observation_space = make_observation_space(self.config)
        self._episode: Episode | None = None
        self.step_stats: dict[str, float | int | str] = {}
        """Seconds and peak memory of the last step: what no two runs share."""
        self.depths: Sequence[int] | None = None
        """Layers that each training iteration of an episode runs, see `Trainer.train`; None is
        all. Copies have it, checkpoints don't; evaluation runs all."""

    # Gymnasium's interface

    @entry
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins an episode; the weights are built when something first needs them.

        Args:
            seed: Fixes everything that is random in this and, unless another seed is given, in
                later episodes.
            options: None are known; must be empty.

        Raises:
            ValueError: If `options` isn't empty, or ranks disagree about the seed.
        """
        if options:
            raise ValueError(f"options={options!r}: TieEnv.reset knows no options")
        super().reset(seed=seed)
        uniform, drawn = self.task.uniform_loss, int(self.np_random.integers(2**48))
        if self._in_step:
            parallel.check_agreement({"seed": seed})
            drawn = collectives.from_first(drawn)
        self._episode = begin_episode(self.config, self.actions, self._first_ties, uniform, drawn)
        self.step_stats, self._printed = {}, None
        return self._observation(), self._info()

    @entry
    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Changes the ties, trains, evaluates.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset and after the end of an episode.
            ValueError: If the action isn't in the action space, or `depths` don't fit the ties that
                it asks for; nothing has changed then.
            tiegym.training.out_of_memory.OutOfMemory: A MemoryError that names what to lower.
        """
        episode = self._running_episode()
        if self._in_step:
            action = collectives.from_first(action)
        if not self.action_space.contains(action):
            raise ValueError(
                f"action={action!r} is not in {self.action_space}: the action space of "
                f'action="{self.config.action}" with {self.config.n_layer} layers'
            )
        config, trainer = self.config, self._started_trainer()
        actions = self.actions
        choices = actions.choices(self.ties, self.frozen)
        choices = actions.after(action, choices, episode.unit(config.n_layer))
        ties, frozen = actions.ties_of(choices)
        iterations = min(config.iters_per_step, config.max_iters - episode.iteration)
        read_depths(trainer.model, ties, self.depths, episode.iteration, iterations)
        previous_share = self._independent_share()
        reset_peak_memory(trainer.device)
        watch = Stopwatch(trainer.device)
        self._retie(ties, frozen)
        before = sample_weights(trainer.model)
        cursor = actions.following(episode.unit(config.n_layer))
        positions = positions_for(config.feature_names, trainer.model, cursor)
        losses = trainer.train(iterations, episode.iteration, self.depths, positions)
        watch.mark()
        loss, metrics = trainer.validate()
        watch.mark()
        others = position_figures(trainer.model, positions, cursor)
        stats = layer_stats(trainer.model, before, config.feature_names, others)
        # The one place in a step that waits for the device.
        values = torch.cat((losses, loss.view(1), stats.flatten())).tolist()
        train_losses, loss, figures = (
            values[:iterations],
            values[iterations],
            values[iterations + 1 :],
        )
        previous_loss = episode.loss
        episode.advance(choices, train_losses, loss, figures, config, metrics)
        self.step_stats = step_stats(watch, iterations)
        if trainer.ranks is not None:
            self.step_stats["added_up_bytes_per_iteration"] = trainer.added_up_bytes
        value = reward(
            config.reward,
            episode.loss,
            previous_loss,
            self._independent_share(),
            config.param_cost,
            previous_share,
        )
        info = self._info()
        if episode.terminated:
            info |= self.test_metrics()
        if self.render_mode == "human":
            self.render()
        return self._observation(), value, episode.terminated, False, info

    # Beyond step and reset

    @property
    def corpus(self) -> Corpus | None:
        """The text of language modelling; None for tasks whose data isn't one text."""
        return getattr(self.task, "text", None)

    @property
    def workload(self) -> Workload:
        """What is trained on what, by the configuration.

        Before the first step another may take its place, of the same corpus and sizes. Forks have
        it, pickles don't; a checkpoint fits an environment that has the same.

        Raises:
            ValueError: If it is replaced when there is a model already.
        """
        return self._trainer.workload

    @workload.setter
    def workload(self, workload: Workload) -> None:
        if self._trainer.built:
            raise ValueError("workload can't be replaced any more: the model is built")
        self._trainer.workload = workload

    @property
    def weights_sha256(self) -> str | None:
        """Of the pretrained weights that an episode begins with; None where they are drawn."""
        return self._trainer.workload.weights_sha256

    @property
    def ties(self) -> Ties:
        """A copy of the tie vector, int64 (L,), or of those of both parts, (2L,)."""
        return np.array(self._known_episode().ties, dtype=np.int64)

    @property
    def frozen(self) -> Frozen:
        """Which layers, or parts of layers, train no more, bool (L,) or (2L,)."""
        return np.array(self._known_episode().frozen, dtype=np.bool_)

    @property
    def model(self) -> TiedModel:
        """The transformer in training; its `parameters()` are the weights that exist, each once."""
        return self._started_trainer().model

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """The transformer's optimiser."""
        return self._started_trainer().optimizer

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The actions that differ from each other, as mask-aware agents want it, bool.

        layerwise: the targets up to the layer under the cursor, and the action that freezes it if
        there is one. pair: all ones. joint: all ones, an entry for each choice of each layer. Where
        only layers of one kind may share weights, ties to another kind are zeros.
        """
        return self.actions.mask(self._known_episode().unit(self.config.n_layer))

    # Inside

    @property
    def _in_step(self) -> bool:
        """Whether other ranks have an environment, too, and are to do the same."""
        return self._trainer.ranks is not None and not self._trainer.ranks.led

    def _running_episode(self) -> Episode:
        episode = self._known_episode()
        if episode.terminated:
            raise gymnasium.error.ResetNeeded(
                f"the episode ended after {episode.iteration} iterations: call env.reset()"
            )
        return episode

    def _retie(self, ties: Ties, frozen: Frozen) -> None:
        """Puts ties into force, for the episode, too: what trains may fail after them."""
        trainer, episode = self._started_trainer(), self._known_episode()
        try:
            trainer.retie(ties, frozen.tolist())
        finally:  # what is in force, also where there was no room for all of it
            episode.ties, episode.frozen = trainer.model.ties.tolist(), trainer.model.frozen

    def _independent_share(self) -> float:
        return parts.n_independent(self.ties, self.config.n_layer) / len(self.ties)

    @entry
    def _started_trainer(self) -> Trainer:
        episode = self._known_episode()
        if not episode.started:
            self._trainer.reset(episode.seed, np.array(episode.ties, dtype=np.int64))
            episode.started = True
        return self._trainer

    def _observation(self) -> Observation:
        return observe(self._known_episode(), self.config)

    def _info(self) -> dict[str, Any]:
        return step_info(self._known_episode(), self._trainer, self.actions)
