"""What a sharing is worth: ridge regression on features that don't know how many layers there are.

It learns from the recorded fixed sharings of TieBench tables. What is done with it is in
`agents.surrogate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tiegym.bench.ranking import agreement, final_losses
from tiegym.bench.table import Floats, load_table
from tiegym.bench.tree import Ints, sharings
from tiegym.runs.input_errors import InputError

PENALTIES = np.logspace(-3, 3, 13)
"""Of the ridge regression; leaving out one sharing at a time chooses."""

FOLDS = 10
"""Of the cross-validation."""


def layers_of_groups(groups: Ints) -> Ints:
    """How many layers each group has, (N, L).

    Args:
        groups: Equal numbers from 0 to L-1 are layers that share weights, (N, L): roots, say.
    """
    n, n_layer = groups.shape
    first = n_layer * np.arange(n)[:, None]
    counts: Ints = np.bincount((first + groups).ravel(), minlength=n * n_layer)
    return counts.reshape(n, n_layer)


def n_groups(groups: Ints) -> Ints:
    """Independent layers of sharings (N, L), (N,)."""
    count: Ints = (layers_of_groups(groups) > 0).sum(axis=1)
    return count


def _pairs(groups: Ints) -> Floats:
    layers, n_layer = layers_of_groups(groups), groups.shape[1]
    share: Floats = (layers * (layers - 1)).sum(axis=1) / (n_layer * (n_layer - 1))
    return share


FEATURES: dict[str, Callable[[Ints], Floats]] = {
    "size": lambda groups: 1 / n_groups(groups),
    "first": lambda groups: (groups[:, 1:] == groups[:, :1]).mean(axis=1),
    "neighbours": lambda groups: (groups[:, 1:] == groups[:, :-1]).mean(axis=1),
    "pairs": _pairs,
}
"""What the model sees of sharings, (N, L) -> (N,), all from 0 to 1 at any L: one over the number of
independent layers; the share of the other layers that use the first one's weights; the share of
neighbouring layers that share; the share of all pairs of layers that share."""


def parse_features(text: str) -> tuple[str, ...]:
    """The names that a text joins by +, in the order of `FEATURES`.

    Raises:
        ValueError: If one is unknown, or there twice.
    """
    given = text.split("+")
    if unknown := [name for name in given if name not in FEATURES]:
        raise ValueError(
            f"features={text!r} has {unknown[0]!r}, which is unknown: join some of "
            f"{', '.join(FEATURES)} by +"
        )
    if twice := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"features={text!r} has {twice[0]} twice: give it once")
    return tuple(name for name in FEATURES if name in given)


@dataclass(frozen=True)
class Recorded:
    """The fixed sharings of a table that a model may learn from.

    Attributes:
        table: Its name, as it was given.
        sha256: Of its content.
        seeds: Of the runs.
        groups: The sharings, (N, L).
        losses: On the validation set at the end, in nats, (R, N), a row for each seed.
        iterations: That all of these runs took.
    """

    table: str
    sha256: str
    seeds: tuple[int, ...]
    groups: Ints
    losses: Floats
    iterations: int


def recorded_sharings(name: str, leave_out: int | None = None) -> Recorded:
    """What a table says of fixed sharings in the seeds of its split train, but for one.

    Args:
        name: Of a shipped table, or the path of an .npz file.
        leave_out: A seed that isn't looked at, whether it is recorded or not.

    Raises:
        FileNotFoundError: If there is no such table.
        InputError: If there is too little in it to learn from.
        ValueError: If it is damaged.
    """
    table = load_table(name)
    rows = [row for row in table.rows_of("train") if table.all_seeds[row] != leave_out]
    if len(rows) < 2:
        others = "" if leave_out is None else f" other than seed={leave_out}"
        raise InputError(
            f"table {name!r} has {len(rows)} recorded seed(s){others} in its split train, but "
            "seeds are compared: take a table with 2 or more"
        )
    if table.n_layer < 3:
        raise InputError(f"table {name!r} has two sharings of 2 layers: take one of 3 or more")
    groups, losses = sharings(table.n_layer), final_losses(table)[rows]
    seeds, iterations = tuple(table.all_seeds[row] for row in rows), int(table.points[-1])
    return Recorded(name, table.sha256, seeds, groups, losses, losses.size * iterations)


@dataclass(frozen=True)
class SharingModel:
    """Predicts the loss of sharings, in nats above or below the mean of those it learnt from.

    Attributes:
        weights: Nats from 0 to 1 of each feature.
        intercept: Nats where all features are 0.
        penalty: That cross-validation chose.
    """

    weights: dict[str, float]
    intercept: float
    penalty: float

    def predict(self, groups: Ints) -> Floats:
        """The losses of sharings (N, L) of any number of layers, (N,)."""
        predicted: Floats = np.full(len(groups), self.intercept)
        for name, weight in self.weights.items():
            predicted += weight * FEATURES[name](groups)
        return predicted


def fit(examples: Sequence[tuple[Ints, Floats]], features: Sequence[str]) -> SharingModel:
    """Ridge regression on standardised features.

    Args:
        examples: Sharings (N, L) and their losses (N,); L may differ from one entry to the next.
            Losses of different tables have different levels: centre them first.
        features: Names of `FEATURES`.
    """
    seen = [np.column_stack([FEATURES[f](groups) for f in features]) for groups, _ in examples]
    losses = np.concatenate([losses for _, losses in examples])
    scaler, ridge = StandardScaler(), RidgeCV(PENALTIES)
    make_pipeline(scaler, ridge).fit(np.concatenate(seen), losses)
    weights = ridge.coef_ / scaler.scale_
    return SharingModel(
        dict(zip(features, weights.tolist(), strict=True)),
        float(ridge.intercept_ - weights @ scaler.mean_),
        float(ridge.alpha_),
    )


def _centred(losses: Floats) -> Floats:
    """Losses (R, N) as one for each sharing, (N,): the mean over seeds, about the mean of all."""
    centred: Floats = losses.mean(axis=0) - losses.mean()
    return centred


def learn(tables: Sequence[Recorded], features: Sequence[str]) -> SharingModel:
    """The model of all that is recorded."""
    return fit([(one.groups, _centred(one.losses)) for one in tables], features)


@dataclass(frozen=True)
class Fit:
    """How well a model ranks the sharings of a table: Spearman's correlations.

    Attributes:
        table: Its name.
        predicted: Of predictions for sharings that the model hasn't seen with the losses of seeds
            that it hasn't seen: over all sharings, and within sizes (NaN where no size has ten).
        other_seeds: The same of the losses of the seeds that it has seen.
    """

    table: str
    predicted: tuple[float, float]
    other_seeds: tuple[float, float]


def cross_validate(tables: Sequence[Recorded], features: Sequence[str]) -> list[Fit]:
    """How well models rank what they haven't seen, for each table.

    Ten-fold: each sharing is left out of all tables at once. A model learns from every second
    seed, and is compared with the others; then the other way round, and the mean counts.
    """
    ranks = np.stack([_half(tables, features, first) for first in (0, 1)]).mean(axis=0)
    return [Fit(one.table, *map(tuple, of)) for one, of in zip(tables, ranks.tolist(), strict=True)]


def _half(tables: Sequence[Recorded], features: Sequence[str], first: int) -> Floats:
    """What models are worth that learnt from every second seed from `first` on, (tables, 2, 2)."""
    examples = [(one.groups, _centred(one.losses[first::2])) for one in tables]
    folds = [_folds(*one.groups.shape) for one in tables]
    predicted = [np.zeros(len(fold)) for fold in folds]
    for k in range(FOLDS):
        parts = zip(examples, folds, strict=True)
        model = fit([(groups[f != k], losses[f != k]) for (groups, losses), f in parts], features)
        for one, fold, values in zip(tables, folds, predicted, strict=True):
            values[fold == k] = model.predict(one.groups[fold == k])
    return np.array(
        [
            [
                agreement(ours, one.losses[1 - first :: 2], one.groups.shape[1])
                for ours in (values[None], one.losses[first::2])
            ]
            for one, values in zip(tables, predicted, strict=True)
        ]
    )


def _folds(n: int, n_layer: int) -> Ints:
    """The fold of each sharing, the same in all tables of as many layers, (n,)."""
    folds: Ints = np.random.default_rng(n_layer).permutation(n) % FOLDS
    return folds
