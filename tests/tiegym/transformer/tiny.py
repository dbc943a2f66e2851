"""Models of the library `transformers` at tiny sizes, and inputs for them."""

import torch
import transformers

VOCABULARY, LENGTH = 37, 9
_TEXT = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_WIDTH = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
_LLAMA = _TEXT | _WIDTH | {"num_hidden_layers": 4, "max_position_embeddings": 16}
_LLAMA |= {"num_key_value_heads": 1, "head_dim": 8}
_BERT = _TEXT | _WIDTH | {"num_hidden_layers": 4, "max_position_embeddings": 16}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 3}

MODELS = {
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config,
        _TEXT
        | {"n_layer": 4, "n_embd": 16, "n_head": 2, "n_positions": 16}
        | {"scale_attn_by_inverse_layer_idx": True},
    ),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, _LLAMA),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config, _LLAMA),
    "gemma3_text": (transformers.Gemma3ForCausalLM, transformers.Gemma3TextConfig, _LLAMA | _MIXED),
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig, _BERT),
    "roberta": (transformers.RobertaForMaskedLM, transformers.RobertaConfig, _BERT),
    "vit": (
        transformers.ViTForImageClassification,
        transformers.ViTConfig,
        _WIDTH | {"num_hidden_layers": 4, "image_size": 8, "patch_size": 4, "num_channels": 1},
    ),
    "t5": (
        transformers.T5ForConditionalGeneration,
        transformers.T5Config,
        _TEXT
        | {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 4, "num_heads": 2}
        | {"decoder_start_token_id": 0},
    ),
}
"""By name: the library's class, that of its configuration, and the configuration's entries."""

EXPERTS = {
    **{"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    **{"first_k_dense_replace": 0, "moe_intermediate_size": 8, "q_lora_rank": 8},
    **{"kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
}
"""Entries of "deepseek_v3", whose layers have a buffer that is saved."""

DROPOUT = ("embd_pdrop", "attn_pdrop", "resid_pdrop", "dropout_rate", "hidden_dropout_prob")
DROPOUT += ("attention_probs_dropout_prob", "attention_dropout")

GENERATE = ("gpt2", "llama", "qwen3", "gemma3_text", "t5")


def build(name, dropout=0.0):
    """A model with random weights, from PyTorch's global generator."""
    kind, config_class, entries = MODELS[name]
    config = config_class(**entries)
    for entry in DROPOUT:
        if hasattr(config, entry):
            setattr(config, entry, dropout)
    return kind(config)


def batch(name, seed=0):
    """Keyword arguments of its forward pass, labels included."""
    generator = torch.Generator().manual_seed(seed)
    if name == "vit":
        images = torch.randn(3, 1, 8, 8, generator=generator)
        return {"pixel_values": images, "labels": torch.tensor([0, 1, 1])}
    tokens = torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
    return {"input_ids": tokens, "labels": tokens.roll(-1, 1)}
