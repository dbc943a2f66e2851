"""Where an episode stands, and a copy of everything that its future depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.ties import Ties

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that an environment's future depends on; see `TieEnv.restore`."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


@dataclass
class Episode:
    """Where an episode stands; all that an environment keeps besides its trainer."""

    seed: int
    loss: float
    """Last validation loss in nats, clipped to `divergence_loss`."""
    train_loss: float
    """Mean training loss in nats over the last step, clipped likewise."""
    stats: list[float]
    """The flat `layer_stats` of the last observation."""
    ties: list[int]
    frozen: list[bool]
    """Which layers, or parts of layers, keep weights that train no more."""
    layer: int = 0
    """Under the cursor, as is the part; 0 where actions name the layer themselves."""
    part: int = 0
    iteration: int = 0
    diverged: bool = False
    terminated: bool = False
    started: bool = False
    """Whether the trainer has been reset for this episode (`reset` is lazy)."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """Iteration and validation perplexity after each step."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The task's metrics on the validation set after the last step; none before the first."""

    def advance(
        self,
        choices: Ties,
        train_losses: list[float],
        loss: float,
        stats: list[float],
        config: TieConfig,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """Takes in what an environment step has done.

        Args:
            choices: Of all units during its iterations, (P L,); see `tiegym.actions`.
            train_losses: Of each iteration, in nats.
            loss: Validation loss after them, in nats.
            stats: The flat `layer_stats`.
            config: Says when the episode ends.
            metrics: The task's, if it has any.
        """
        ceiling, actions = config.divergence_loss, Actions.of(config)
        self.ties, self.frozen = (values.tolist() for values in actions.ties_of(choices))
        self.stats = stats
        self.iteration += len(train_losses)
        self.part, self.layer = divmod(actions.following(self.unit(config.n_layer)), config.n_layer)
        self.diverged = not all(value <= ceiling for value in (*train_losses, loss))
        self.loss = ceiling if self.diverged else loss
        self.metrics = dict.fromkeys(metrics or {}, 0.0) if self.diverged else (metrics or {})
        train_loss = sum(train_losses) / len(train_losses)
        self.train_loss = train_loss if train_loss <= ceiling else ceiling
        self.terminated = self.diverged or self.iteration >= config.max_iters
        self.history.append((self.iteration, math.exp(self.loss)))

    def unit(self, n_layer: int) -> int:
        """The unit under the cursor; see `tiegym.parts`."""
        return self.part * n_layer + self.layer


def begin_episode(
    config: TieConfig, actions: Actions, ties: Ties, uniform_loss: float, seed: int
) -> Episode:
    """An episode before its first step.

    Args:
        config: Of the environment.
        actions: Its actions.
        ties: That it begins with, (P L,).
        uniform_loss: Of its task, in nats: the loss before the first step.
        seed: Of the trainer's reset.
    """
    part, layer = divmod(actions.first(), config.n_layer)
    return Episode(
        seed=seed,
        loss=uniform_loss,
        train_loss=uniform_loss,
        stats=[0.0] * (actions.n_units * len(config.feature_names)),
        ties=ties.tolist(),
        frozen=[False] * actions.n_units,
        layer=layer,
        part=part,
    )


def read_episode(values: Any, config: TieConfig) -> Episode:
    """The episode that `dataclasses.asdict` wrote, once each value is known to be possible.

    Raises:
        ValueError: If it isn't one of this configuration.
    """
    names = [field.name for field in fields(Episode)]
    n, most = config.n_layer, config.max_iters
    n_units = config.n_parts * n
    if isinstance(values, dict):  # 0.1 had neither parts nor frozen layers
        values = {"part": 0, "frozen": [False] * n_units, "metrics": {}} | values
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        raise ValueError(f"an episode has the entries {', '.join(names)}")
    losses = [values["loss"], values["train_loss"]]
    good = {
        "seed": _is_int(values["seed"], 0, 2**63),
        "loss and train_loss": _are_floats(losses),
        "stats": isinstance(values["stats"], list)
        and len(values["stats"]) == n_units * len(config.feature_names)
        and _are_floats(values["stats"]),
        "layer": _is_int(values["layer"], 0, n),
        "part": _is_int(values["part"], 0, config.n_parts),
        "frozen": isinstance(values["frozen"], list)
        and len(values["frozen"]) == n_units
        and all(type(value) is bool for value in values["frozen"]),
        "metrics": isinstance(values["metrics"], dict)
        and _are_floats(list(values["metrics"].values())),
        "iteration": _is_int(values["iteration"], 0, most + 1),
        "diverged, terminated and started": all(
            type(values[name]) is bool for name in ("diverged", "terminated", "started")
        ),
        "history": isinstance(values["history"], list)
        and all(
            isinstance(point, list | tuple)
            and len(point) == 2
            and _is_int(point[0], 0, most + 1)
            and _are_floats([point[1]])
            for point in values["history"]
        ),
    }
    if wrong := [name for name, holds in good.items() if not holds]:
        raise ValueError(f"the episode's {', '.join(wrong)} can't be")
    ties = parts.validate(values["ties"], n, config.n_parts)
    _check_cursor_and_frozen(values, ties, config)
    points = [(point[0], point[1]) for point in values["history"]]
    return Episode(**values | {"history": points})


def _check_cursor_and_frozen(values: dict[str, Any], ties: Ties, config: TieConfig) -> None:
    actions = Actions.of(config)
    unit = values["part"] * config.n_layer + values["layer"]
    turns = actions.turns if config.action == "layerwise" else [0]
    if unit not in turns:
        raise ValueError(f"the cursor at layer {values['layer']}, part {values['part']}, can't be")
    tied = ties != actions.layer
    if any(values["frozen"]) and (not actions.freeze or (tied & values["frozen"]).any()):
        raise ValueError(
            "frozen can't be: only layers with weights of their own are, and only with "
            'choices="tie+freeze"'
        )


def _is_int(value: Any, least: int, beyond: int) -> bool:
    return type(value) is int and least <= value < beyond


def _are_floats(values: list[Any]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


_FLAGS = (
    *("amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused"),
    "decoupled_weight_decay",
)


def read_hyperparameters(values: Any) -> dict[str, Any]:
    """What `Trainer.hyperparameters` gave, by way of JSON; None, as in 0.1, is none.

    Raises:
        ValueError: If it isn't a dictionary of plain values.
    """
    if values is None:
        return {}
    plain = (bool, int, float, str, type(None))
    if not isinstance(values, dict):
        raise ValueError("the optimizer's values are no dictionary")
    for name, value in values.items():
        if name == "betas":
            holds = isinstance(value, list | tuple) and len(value) == 2 and _are_floats([*value])
        elif name in ("lr", "weight_decay", "eps"):
            holds = _are_floats([value]) and value >= 0
        elif name in _FLAGS:
            holds = isinstance(value, bool | None)
        else:  # what a schedule has put there for itself
            entries = value if isinstance(value, list | tuple) else [value]
            holds = all(isinstance(entry, plain) for entry in entries)
        if not holds:
            raise ValueError(f"the optimizer's {name}={value!r} can't be")
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def check_same(what: str, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    """Checks that a copy is of the configuration that is to go on from it.

    Args:
        what: The beginning of the message, such as "x.safetensors is a checkpoint".
        theirs: The resolved configuration of the copy.
        mine: That of the environment.

    Raises:
        ValueError: If they differ; the message names all that does.
    """
    different = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    if different:
        raise ValueError(
            f"{what} of another configuration; different are "
            + ", ".join(f"{k} ({theirs.get(k)!r} there, {mine.get(k)!r} here)" for k in different)
        )
