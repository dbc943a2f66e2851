"""The attention and the MLP of a layer of the library `transformers`: which parameter is whose.

The library has no one word for either. Which module is an attention, and which an MLP, its name or
that of its class says. Of two norms beside them, the first is the attention's: GPT-2 and Llama have
one before each, OLMo 2 one behind each. Of more, half must be named for the MLP, as in Gemma, which
has one before and one behind each: types list those in different orders. A norm inside another
module, such as BERT's, goes with that. What isn't like that has no parts: nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from torch import nn

from tiegym.transformer.layer_list import LayerList, is_norm

_ATTENTION = re.compile("attention|Attention|attn|Attn")
_MLP = re.compile(
    r"mlp|MLP|Mlp|moe|MoE|Moe|ffn|FF|\bff\b|feed_?forward|FeedForward|intermediate|output|fc[0-9]"
)


def apart(layers: LayerList) -> LayerList:
    """The same layers, whose attention and MLP share weights apart from each other.

    Raises:
        ValueError: If it isn't known which parameter belongs to which of the two.
    """
    layer = max(layers.modules, key=lambda module: sum(1 for _ in module.parameters()))
    modules = dict(_modules(layer))
    owner = {
        name: next((path for path in modules if name.startswith(f"{path}.")), None)
        for name in layers.shared
    }
    roles = {path: _role(path, module) for path, module in modules.items()}
    if strange := [name for name, path in owner.items() if path is None or not roles[path]]:
        raise _unknown(layer, f"{strange[0]} is of neither")
    sharing = set(owner.values())
    attentions, mlps = (
        [path for path, role in roles.items() if role == of and path in sharing]
        for of in ("attention", "mlp")
    )
    if not attentions or not mlps:
        raise _unknown(layer, f"it has no {'MLP' if attentions else 'attention'}")
    norms = [path for path, role in roles.items() if role == "norm"]
    last = [path for path in norms if _MLP.search(path)] if len(norms) > 2 else norms[1:]
    if sharing & {*norms} and (len(attentions) > 1 or 2 * len(last) != len(norms)):
        raise _unknown(layer, f"it isn't known which norm is whose ({', '.join(norms)})")
    mlp = {*mlps, *last}
    parts = tuple(
        tuple(name for name in layers.shared if (owner[name] in mlp) == is_mlp)
        for is_mlp in (False, True)
    )
    return dataclasses.replace(layers, parts=parts)


def _modules(layer: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What a layer is made of, with names; of lists, such as T5's, what they are made of."""
    for name, module in layer.named_children():
        if isinstance(module, nn.ModuleList):
            yield from _modules(module, f"{path}{name}.")
        elif next(module.parameters(), None) is not None:
            yield f"{path}{name}", module


def _role(path: str, module: nn.Module) -> str:
    """What it is: "attention", "mlp", "norm", or "" for something else."""
    if is_norm(module):
        return "norm"
    names = f"{path} {type(module).__name__}"
    if _ATTENTION.search(names):
        return "attention"
    return "mlp" if _MLP.search(names) else ""


def _unknown(layer: nn.Module, why: str) -> ValueError:
    return ValueError(
        f"tie_parts='attention+mlp': the attention and the MLP of {type(layer).__name__} can't be "
        f"told apart, since {why}. Choose tie_parts='block'"
    )
