"""Which rows some members of a population use where, and the weights that stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tiegym.training.population_members import Members
from tiegym.training.population_rows import Owner, Rows
from tiegym.transformer.population import Stacked, Weights

ACTIVATION_BYTES = {"cpu": 2**26, "cuda": 2**33}
"""Of how many activations at a time members are trained together: on a CPU as many as were fastest
(`benchmarks.population`), on a GPU a tenth of a large one."""


@dataclass(frozen=True)
class Place:
    """The rows of a store that some members use at one place.

    Attributes:
        store: The store.
        index: The row of each member, (M,); a slice where they lie side by side.
        trained: Which of the members train it there, (k,); None is all, if any does.
        rows: The rows of these, (k,) or a slice; None if none does.
    """

    store: Rows
    index: Tensor | slice
    trained: Tensor | None = None
    rows: Tensor | slice | None = None

    def values(self) -> dict[str, Tensor]:
        """The weights by name, (M, ...): views of the store where that is possible, or copies."""
        weights, index = self.store.weights, self.index
        rows = weights[index] if isinstance(index, slice) else weights.index_select(0, index)
        return self.store.views(rows)

    def stacked(self, dtype: torch.dtype) -> Stacked:
        """The weights in a dtype, and where their gradients go."""
        gradients = {} if self.rows is None else self.store.columns(self.store.gradients)
        values = {name: value.to(dtype) for name, value in self.values().items()}
        return Stacked(values, gradients, self.trained, self.rows)


@dataclass(frozen=True)
class Together:
    """Members that are computed at a time, and the rows that they use.

    Attributes:
        members: Their numbers.
        single: What each has once, by the store's name.
        layers: What each uses in each layer, by unit, and what is private there.
    """

    members: tuple[int, ...]
    single: Mapping[str, Place]
    layers: Sequence[Mapping[str, Place]]


def together(
    population: Members, members: Sequence[int], learns: bool, batches: int = 1
) -> list[Together]:
    """Members in groups that are computed at a time, and what each uses where."""
    config, shape = population.config, population.shape
    tokens = config.batch_size * config.block_size * batches
    numbers = 3 * shape.vocab_size + 8 * config.n_embd
    if learns:  # kept for the backward pass
        tokens //= config.grad_accum
        numbers = 3 * shape.vocab_size + 16 * config.n_embd * config.n_layer
    room = ACTIVATION_BYTES.get(population.device.type, 2**26)
    at_a_time = max(1, room // (tokens * numbers * population.compute_dtype.itemsize))
    return [
        _group(population, members[k : k + at_a_time], learns)
        for k in range(0, len(members), at_a_time)
    ]


def _group(population: Members, members: Sequence[int], learns: bool) -> Together:
    roots = {member: population.roots(member) for member in members}
    places: list[dict[str, Place]] = []
    for layer in range(population.config.n_layer):
        of_layer: dict[str, Place] = {}
        for unit in range(layer, population.n_units, population.config.n_layer):
            owners = [(member, roots[member][unit]) for member in members]
            trains = [
                learns and (root == unit or population.config.tie_grad == "sum")
                for _, root in owners
            ]
            of_layer[f"unit {unit}"] = _place(population.store(unit), owners, trains)
        if "private" in population.stores:
            owners = [(member, layer) for member in members]
            trains = [learns] * len(owners)
            of_layer["private"] = _place(population.stores["private"], owners, trains)
        places.append(of_layer)
    once = [(member, 0) for member in members]
    single = {
        name: _place(population.stores[name], once, [learns] * len(once))
        for name in ("token_embedding", "position_embedding", "final_norm")
    }
    return Together(tuple(members), single, places)


def _place(store: Rows, owners: list[Owner], trains: list[bool]) -> Place:
    rows = [store.row[owner] for owner in owners]
    learn = [k for k, row in enumerate(rows) if trains[k] and row < store.n_trained]

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=store.weights.device)

    def at(values: list[int]) -> Tensor | slice:
        side_by_side = values == [*range(values[0], values[0] + len(values))]
        return slice(values[0], values[-1] + 1) if side_by_side else tensor(values)

    if not learn:
        return Place(store, at(rows))
    everyone = len(learn) == len(rows)
    return Place(store, at(rows), None if everyone else tensor(learn), at([rows[k] for k in learn]))


def weights_of(some: Together, dtype: torch.dtype) -> tuple[Weights, list[tuple[Place, Tensor]]]:
    """The weights that a group uses, and which leaves get their gradients from autograd."""
    embeddings, leaves = {}, []
    for name in ("token_embedding", "position_embedding"):
        place = some.single[name]
        values = place.values()[name]
        if place.rows is not None:
            values.requires_grad_()
            leaves.append((place, values))
        embeddings[name] = values
    layers, private = [], []
    for of_layer in some.layers:
        stacked = {name: place.stacked(dtype) for name, place in of_layer.items()}
        if "private" in stacked:
            private.append(stacked.pop("private"))
        layers.append({name: w for w in stacked.values() for name in w.values})
    final = some.single["final_norm"].stacked(dtype)
    return Weights(**embeddings, final_norm=final, layers=layers, private=private), leaves
