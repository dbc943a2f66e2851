"""What each policy is compared with: its null model, a kept draw, the best others of its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tiegym.analysis.rows import TRAINING, Row, is_shallow, trained_with
from tiegym.analysis.verdicts import Comparison, compare_losses

RANDOM, RANDOM_RAW, RANDOM_FIXED = "random_tying", "random_raw", "random_fixed"
"""Programs of the null models: uniform over the choices that differ from each other, uniform over
the raw actions, and a tie vector that is drawn once and kept."""

CHOOSE_ONCE = ("surrogate", "retrain-", "evolution")
"""How programs of this project are named that have chosen a sharing before the run, and keep it."""

UNMASKED = ("dqn", "ppo", "recurrent_ppo")
"""Agents of this project that draw from the raw actions, whether the reported run shows it or
not."""


WHAT_TRAINS = ("private", "quantize", "factorize", "embeddings", "tie_parts")
"""Arguments of the environment that decide how many parameters train, independent layers aside."""


class Reference(NamedTuple):
    """What a policy is compared with."""

    policy: str
    losses: dict[int, float]
    """Test loss in nats, by seed."""
    choices: int = 1
    """Policies that it is the best of, chosen on the runs that it is compared on."""


def compare_with(row: Row, reference: Reference) -> Comparison:
    """Compares a policy with its reference on test loss in nats."""
    return compare_losses(row.losses, reference.losses, reference.choices)


def null_model(rows: Sequence[Row], row: Row) -> Reference | None:
    """The null model of the action space that a policy draws from; None where there is none.

    It is `random` for agents that know which actions differ, and `random-raw`, if it is there, for
    those that draw from all layerwise actions: of these every action from the layer's own number
    on makes it independent, so chance alone unties more. Who chooses a sharing before the run and
    keeps it is compared with a drawn one that is kept, of the size that it was told.
    """
    choices = trained_with(row, "choices")
    alike = [r for r in others_alike(rows, row) if trained_with(r, "choices") == choices]
    if row.program.startswith(CHOOSE_ONCE):
        of_its_size = [r for r in alike if _size(r) == _size(row)]
        if drawn := _nearest(of_its_size, row, RANDOM_FIXED):
            return drawn
    wanted = (RANDOM_RAW, RANDOM) if draws_raw_actions(row) else (RANDOM,)
    return next(filter(None, (_nearest(alike, row, program) for program in wanted)), None)


def draws_raw_actions(row: Row) -> bool:
    """Whether a layerwise policy takes actions that the mask leaves out.

    Examples of these are the agents that are known to (`UNMASKED`), and any whose runs have an
    action beyond the layer that it was for.
    """
    if row.env.get("action", "layerwise") != "layerwise":
        return False
    return row.program in UNMASKED or any(_beyond_the_mask(run.steps, row) for run in row.runs)


def _beyond_the_mask(steps: Sequence[dict[str, Any]], row: Row) -> bool:
    n_layer, n_parts = row.env["n_layer"], 2 if row.env.get("tie_parts") == "attention+mlp" else 1
    first = 0 if trained_with(row, "choices") == "tie+freeze" else 1
    sweep = max(1, n_layer - first)
    episode, within = None, 0
    for step in steps:
        within = within + 1 if step.get("episode") == episode else 0
        episode = step.get("episode")
        action = step.get("action")
        layer = within // n_parts % sweep + first
        if isinstance(action, int) and layer < action < n_layer:  # action L freezes
            return True
    return False


def random_fixed(rows: Sequence[Row], row: Row) -> Reference | None:
    """The tie vectors that are drawn once a seed and kept; None where there are none.

    Random tying changes all the time, and changing costs: to be better than it may mean no more
    than to have stopped.
    """
    of_any_size = [r for r in others_alike(rows, row) if _size(r) is None]
    return _nearest(of_any_size, row, RANDOM_FIXED)


def _size(row: Row) -> int | None:
    """How many independent layers a policy was told to have; None if it wasn't."""
    size: int | None = (row.runs[0].config.get("options") or {}).get("size")
    return size


def _nearest(rows: Sequence[Row], row: Row, program: str) -> Reference | None:
    """The row of a program that was trained most as `row` was: with private parts as it, say.

    Whoever is compared with the best of several null models is compared with a chosen one. One
    with the same kind of actions comes first. Of several that are as near the one that begins with
    the same ties is taken, then the one with the same learning rate, as each policy may have been
    tuned by itself, then the first by name: never the one that did best.
    """
    found = sorted((r for r in rows if r.program == program), key=lambda r: r.policy)
    if not found:
        return None

    def near(other: Row) -> tuple[bool, int, bool, bool]:
        keys = (*TRAINING, "initial_ties", "action")
        same = {k: trained_with(other, k) == trained_with(row, k) for k in keys}
        ties, rate, action = map(same.pop, ("initial_ties", "learning_rate", "action"))
        return action, sum(same.values()), ties, rate

    nearest = max(found, key=near)
    return Reference(nearest.policy, nearest.losses)


def best_fixed(rows: Sequence[Row], row: Row) -> Reference | None:
    """The best fixed pattern of a policy's size, on validation; None where there is none.

    One that begins with trained weights is a pattern for those alone who do, too.

    Of the size are patterns whose trainable parameters differ from the policy's mean by less than
    half of a layer's; in the middle between two sizes, the larger one. The best of several, chosen
    on the runs that it is compared on, would make a policy "worse" for nothing: the comparison
    corrects for how many there were.
    """
    begins_trained = trained_with(row, "initial_weights") is not None
    patterns = [
        r
        for r in others_alike(rows, row)
        if r.program.startswith("fixed-")
        and (begins_trained or trained_with(r, "initial_weights") is None)
    ]
    return _best_of_size(patterns, row, rows)


def best_shallow(rows: Sequence[Row], row: Row) -> Reference | None:
    """The best untied transformer of fewer layers of a policy's size; None where there is none.

    It is what else a user would take for as many parameters. Of the size as in `best_fixed`; how
    gradients of shared weights are made is nothing to it.
    """
    return _best_of_size([r for r in rows if r is not row and is_shallow(r)], row, rows)


def _best_of_size(candidates: Sequence[Row], row: Row, rows: Sequence[Row]) -> Reference | None:
    layer = _layer_parameters(rows)
    same = [r for r in candidates if _same_size(row, r, layer)]
    if not same:
        return None
    best = min(same, key=lambda r: r.mean("val_loss"))
    return Reference(best.policy, best.losses, len(same))


def _layer_parameters(rows: Sequence[Row]) -> float:
    """Trainable parameters that an independent layer adds, from runs with few and with many.

    Only runs show it that differ in nothing else of what trains: with the same private parts, which
    are in every layer, independent or not, with layers kept in the same way, of the same units.
    Of what may freeze layers the parameters say less, and it is left out if there are others.
    """
    rows = [row for row in rows if trained_with(row, "choices") == "tie"] or rows
    sizes: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in rows:
        alike = sizes.setdefault(tuple(trained_with(row, key) for key in WHAT_TRAINS), [])
        alike += zip(row.final("n_independent"), row.final("trainable_params"), strict=True)
    slopes = [0.0]
    for found in sizes.values():
        (few, least), (many, most) = min(found), max(found)
        slopes += [(most - least) / (many - few)] if many > few else []
    return max(slopes)


def _same_size(row: Row, pattern: Row, layer: float) -> bool:
    difference = row.mean("trainable_params") - pattern.mean("trainable_params")
    # Not round(), which would take 2.5 to 2 and 3.5 to 4.
    return math.floor(difference / layer + 0.5) == 0 if layer > 0 else difference == 0


def others_alike(rows: Sequence[Row], row: Row) -> list[Row]:
    """The other rows that tie the same parts, with gradients of the same kind, as `row`.

    These change the result of the same ties: a policy isn't compared with one of another kind.
    """
    kind = [trained_with(row, key) for key in ("tie_grad", "tie_parts")]
    others = [r for r in rows if r is not row]
    return [r for r in others if [trained_with(r, k) for k in ("tie_grad", "tie_parts")] == kind]
