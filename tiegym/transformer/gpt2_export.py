"""An exported model as the folder of a GPT-2 that the library `transformers` loads.

    transformers.GPT2LMHeadModel.from_pretrained(folder)

The block is GPT-2's own, so nothing is approximated. What that library doesn't have is tying
between layers: each layer is written out, the tied ones as copies of their root, with what is
private to each folded into its matrices. The head is the token embedding there too. The library
itself isn't needed to write the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tiegym.atomic_write import new_folder
from tiegym.data.tokenization import Tokenizer
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.isolation import isolated
from tiegym.transformer.private import folded

LAYER_NAMES = {
    "norm_1_weight": "ln_1.weight",
    "norm_1_bias": "ln_1.bias",
    "qkv_weight": "attn.c_attn.weight",
    "qkv_bias": "attn.c_attn.bias",
    "attention_out_weight": "attn.c_proj.weight",
    "attention_out_bias": "attn.c_proj.bias",
    "norm_2_weight": "ln_2.weight",
    "norm_2_bias": "ln_2.bias",
    "mlp_in_weight": "mlp.c_fc.weight",
    "mlp_in_bias": "mlp.c_fc.bias",
    "mlp_out_weight": "mlp.c_proj.weight",
    "mlp_out_bias": "mlp.c_proj.bias",
}
"""The weights of `tiegym.transformer.block.BlockWeights` with their names in GPT-2."""

END_OF_TEXT = "<|endoftext|>"


@isolated
def export_gpt2(model: TiedTransformer, tokenizer: Tokenizer, folder: str | Path) -> None:
    """Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer.
        folder: Where to; made if it isn't there. It appears whole or not at all.

    Raises:
        FileExistsError: If the folder holds something.
    """
    inner = tokenizer.to_library()
    with new_folder(folder) as temporary:
        inner.save(str(temporary / "tokenizer.json"))
        _write_json(
            temporary / "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": model.shape.block_size,
                "clean_up_tokenization_spaces": False,
            },
        )
        _write_json(temporary / "config.json", gpt2_config(model, inner.token_to_id(END_OF_TEXT)))
        save_file(gpt2_tensors(model), temporary / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(f"{json.dumps(value, indent=2)}\n")


def gpt2_config(model: TiedTransformer, end_of_text: int | None) -> dict[str, Any]:
    """The entries of config.json.

    Args:
        model: The trained model.
        end_of_text: The token that stands between texts, if the tokenizer has one.
    """
    shape = model.shape
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocab_size,
        "n_positions": shape.block_size,
        "n_embd": shape.n_embd,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.dropout,
        "resid_pdrop": model.dropout,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": str(model.token_embedding.dtype).removeprefix("torch."),
    }


@isolated
def gpt2_tensors(model: TiedTransformer) -> dict[str, Tensor]:
    """The weights under GPT-2's names, a copy of its own for each layer."""
    tensors: dict[str, Tensor] = {
        "transformer.wte.weight": model.token_embedding,
        "transformer.wpe.weight": model.position_embedding,
        "transformer.ln_f.weight": model.final_norm_weight,
        "transformer.ln_f.bias": model.final_norm_bias,
    }
    for layer in range(model.shape.n_layer):
        weights = folded(model.shared_weights(layer), model.private_weights(layer))
        for name, weight in weights._asdict().items():
            # Where PyTorch's linear layer has (out, in), GPT-2's Conv1D has (in, out).
            tensors[f"transformer.h.{layer}.{LAYER_NAMES[name]}"] = weight.t()
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
