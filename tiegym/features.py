"""Features: the figures that an observation has of each layer, by name; no PyTorch.

How they are computed is in `tiegym.transformer.layer_stats`, and of those that need the gradient
of a single position in `tiegym.transformer.position_gradients`.
"""

from __future__ import annotations

FEATURES = ("moved", "similarity", "gradient")
"""What `layer_stats` holds of each layer by default, in this order; with
`tie_parts="attention+mlp"` of the attention part of each layer, then of the MLP part of each.

Of matrices that are quantised or tensor trains, the weights are what a forward pass makes of them,
but for the gradient, which is that of what trains.

- moved: tanh(10 d), d the distance that the layer's weights moved during the last environment
  step, relative to their norm before it. A tie change by itself moves nothing.
- similarity: cosine similarity of the layer's weights with those of the layer before it; 1 where
  both use the same weights, 1 for layer 0.
- gradient: tanh(ln(g / g_mean)), g the norm of the last gradient of the weights that the layer
  uses, g_mean its mean over the layers.
"""

POSITION_FEATURES = ("agreement", "taylor")
"""What `TieConfig.features` can name besides; behind the others, in this order. Both are of the
last iteration of an environment step, and of its gradient before clipping.

- agreement, with `tie_grad="sum"` alone: cosine similarity of the gradient at the layer's own
  position with the sum over all positions that use the same weights, from a sample of the weights;
  1 where no other position does, and where the weights are frozen. Of n positions whose gradients
  are orthogonal and of one length it is 1 / sqrt(n).
- taylor, with `action="layerwise"` alone: tanh(10 d), d the first-order change of the loss in nats
  if the layer under the cursor, which is decided next, were tied to this one: the product of the
  gradient of the shared weights at its position (and those of layers that would follow it) with
  the difference of the weights. The difference is that after the step, and the gradient that of
  its last iteration, whether it trains anything or not. 0 for the layer itself and all behind it,
  for layers that use the same weights, and of parts for those of the other kind.
"""


def parse(features: str) -> tuple[str, ...]:
    """Reads names joined by "+", in any order, into the order of an observation.

    Raises:
        ValueError: If a name is unknown or there twice, or there is none.

    Examples:
        >>> parse("agreement+moved")
        ('moved', 'agreement')
    """
    known = FEATURES + POSITION_FEATURES
    given = features.split("+")
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"features={features!r} has {unknown[0]!r}, which is unknown: join some of "
            f"{', '.join(known)} with +, such as {'+'.join((*FEATURES, known[-1]))}"
        )
    if twice := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"features={features!r} has {twice[0]} twice: give it once")
    return tuple(name for name in known if name in given)


def check(names: tuple[str, ...], tie_grad: str, action: str) -> None:
    """Checks that an environment has what its features need.

    Args:
        names: What `parse` returned.
        tie_grad: As in `TieConfig`.
        action: As in `TieConfig`.

    Raises:
        ValueError: If not.
    """
    if "agreement" in names and tie_grad != "sum":
        raise ValueError(
            f"features={'+'.join(names)!r} has agreement, of gradients that are added up, and "
            f'with tie_grad={tie_grad!r} none are: choose tie_grad="sum", or leave it out'
        )
    if "taylor" in names and action != "layerwise":
        raise ValueError(
            f"features={'+'.join(names)!r} has taylor, of the layer that is decided next, and "
            f'with action={action!r} none is known: choose action="layerwise", or leave it out'
        )
