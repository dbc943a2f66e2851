"""What weights a transformer has, by their names, without building it."""

from __future__ import annotations

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.ties import Ties
from tiegym.transformer.block import Shape
from tiegym.transformer.private import private_sizes


def parameter_sizes(shape: Shape, ties: Ties) -> dict[str, tuple[int, ...]]:
    """The sizes of all weights of a transformer by their names, without building it.

    Args:
        shape: Its sizes.
        ties: Its ties, (L,) or of two parts (2L,); see `tiegym.parts`.
    """
    sizes: dict[str, tuple[int, ...]] = {
        "token_embedding": (shape.vocab_size, shape.n_embd),
        "position_embedding": (shape.block_size, shape.n_embd),
        "final_norm_weight": (shape.n_embd,),
        "final_norm_bias": (shape.n_embd,),
    }
    names, private = parts.unit_names(len(ties), shape.n_layer), shape.private_parts
    own = tie_vectors.independent_layers(parts.forest(ties, shape.n_layer))
    for unit in parts.by_layer(own, shape.n_layer):
        of_part = shape.part_sizes(part_name(unit, len(ties), shape.n_layer)).items()
        sizes |= {f"blocks.{names[unit]}.{name}": size for name, size in of_part}
    of_position = private_sizes(private, shape.n_embd).items()
    for layer in range(shape.n_layer):
        sizes |= {f"private.{layer}.{name}": size for name, size in of_position}
    return sizes


def part_name(unit: int, n_units: int, n_layer: int) -> str:
    """The name of the part of its layer that a unit is."""
    return "block" if n_units == n_layer else parts.PARTS["attention+mlp"][unit // n_layer]
