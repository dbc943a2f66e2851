"""What a side network begins with: those rows and columns of its backbone that matter most.

The importance of a weight is its Fisher information: the mean square of the gradient that a
sequence gives it (Sung et al. 2022, arXiv 2206.06522). The paper says that rows are chosen by the
sum of theirs; how the choices of neighbouring matrices go together is ours:

- channels of the residual stream, the same for the whole network: by what reads and writes them in
  all layers;
- of each head, channels of queries and keys together, and channels of values with the columns of
  the output projection that read them;
- units of the MLP, by their row of the first matrix and their column of the second.

D_l and U begin as the choice of the channels of the stream and its transpose, so that the side
network begins as a thinned backbone. It costs a backward pass through the backbone for each
sequence, once and before training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiegym.transformer.block import Block, BlockWeights, block
from tiegym.transformer.isolation import isolated
from tiegym.transformer.ladder import LadderTransformer
from tiegym.transformer.private import folded

_MATRICES = ("qkv_weight", "attention_out_weight", "mlp_in_weight", "mlp_out_weight")


@isolated
def fisher_information(
    model: LadderTransformer, tokens: Tensor, targets: Tensor
) -> list[dict[str, Tensor]]:
    """The mean square of the gradients of single sequences, in float32 or wider.

    Args:
        model: Of its backbone.
        tokens: Sequences, (B, T).
        targets: The tokens that follow, (B, T).

    Returns:
        For each layer its four matrices by name. Of layers that share weights, each has the
        information at its own position.
    """
    wide = torch.promote_types(model.token_embedding.dtype, torch.float32)
    weights = [_plain_block(model, layer, wide) for layer in range(model.n_layer)]
    leaves = [{n: getattr(w, n).clone().requires_grad_() for n in _MATRICES} for w in weights]
    found = [{n: torch.zeros_like(p) for n, p in layer.items()} for layer in leaves]
    for row, goal in zip(tokens, targets, strict=True):
        x = model.embedded(row[None]).to(wide)
        for w, leaf in zip(weights, leaves, strict=True):
            x = block(w._replace(**leaf), x, model.shape.n_head)
        logits = F.linear(model.normalized(x)[0], model.token_embedding.detach().to(wide))
        flat = [p for layer in leaves for p in layer.values()]
        gradients = iter(torch.autograd.grad(F.cross_entropy(logits, goal), flat))
        for layer in found:
            for total in layer.values():
                total += next(gradients).square() / len(tokens)
    return found


def _plain_block(model: LadderTransformer, layer: int, dtype: torch.dtype) -> BlockWeights:
    """The weights of a plain block that computes what a layer does."""
    weights = folded(model.shared_weights(layer), model.private_weights(layer))
    return BlockWeights(*(w.detach().to(dtype) for w in weights if w is not None))


@isolated
@torch.no_grad()
def start_from_backbone(model: LadderTransformer, tokens: Tensor, targets: Tensor) -> None:
    """Gives the side network the most important rows and columns of its backbone.

    Args:
        model: Its gates stay as they are.
        tokens: As of `fisher_information`.
        targets: As of `fisher_information`.
    """
    fisher = fisher_information(model, tokens, targets)
    side, n_head = model.part, model.shape.n_head
    width, n_embd = side.norm.weight.numel(), model.shape.n_embd
    of_stream = sum(
        f["qkv_weight"].sum(0)
        + f["mlp_in_weight"].sum(0)
        + f["attention_out_weight"].sum(1)
        + f["mlp_out_weight"].sum(1)
        for f in fisher
    )
    assert isinstance(of_stream, Tensor)
    stream = _largest(of_stream, width)
    for layer, f in enumerate(fisher):
        query, key, value = f["qkv_weight"].sum(1).view(3, n_embd)
        asked = _in_heads(query + key, n_head, width)
        read = _in_heads(value + f["attention_out_weight"].sum(0), n_head, width)
        units = _largest(f["mlp_in_weight"].sum(1) + f["mlp_out_weight"].sum(0), 4 * width)
        rows = torch.cat((asked, asked + n_embd, read + 2 * n_embd))
        w, mine = _plain_block(model, layer, model.token_embedding.dtype), side.blocks[layer]
        assert isinstance(mine, Block)
        chosen = {
            "qkv_weight": w.qkv_weight[rows][:, stream],
            "qkv_bias": w.qkv_bias[rows],
            "attention_out_weight": w.attention_out_weight[stream][:, read],
            "mlp_in_weight": w.mlp_in_weight[units][:, stream],
            "mlp_in_bias": w.mlp_in_bias[units],
            "mlp_out_weight": w.mlp_out_weight[stream][:, units],
        }
        for name, p in mine.named_parameters():
            p.copy_(chosen[name] if name in chosen else getattr(w, name)[stream])
    choice = torch.eye(n_embd, device=stream.device, dtype=side.up.weight.dtype)[stream]
    for linear, matrix in (*((down, choice) for down in side.down), (side.up, choice.T)):
        assert isinstance(linear, nn.Linear)
        linear.weight.copy_(matrix)
        linear.bias.zero_()
    side.norm.weight.copy_(model.final_norm_weight[stream])
    side.norm.bias.copy_(model.final_norm_bias[stream])


def _largest(importance: Tensor, n: int) -> Tensor:
    """The places of the n largest values, in order."""
    return importance.topk(n).indices.sort().values


def _in_heads(importance: Tensor, n_head: int, width: int) -> Tensor:
    """As many places of each head, (width,) in all."""
    of_head = importance.view(n_head, -1)
    first = torch.arange(n_head, device=importance.device)[:, None] * of_head.shape[1]
    return (of_head.topk(width // n_head, dim=1).indices.sort(dim=1).values + first).flatten()
