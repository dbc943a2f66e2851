"""Models of `transformers` whose attention and MLP share weights apart from each other."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from tests.tiegym.transformer.test_pretrained import (
    N_LAYER,
    copied_out,
    same_weights_every_time,  # noqa: F401
    tied,
    train_under_changing_ties,
)
from tests.tiegym.transformer.tiny import GENERATE, MODELS, batch, build
from tiegym.transformer.layer_list import LayerList, find_layers
from tiegym.transformer.layer_parts import apart

TIES = [0, 1, 0, 1, 0, 0, 2, 0]  # attention: two kinds, in turn; MLPs: 0, 1 and 3 share


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("name", MODELS)
def test_training_under_changing_parts_equals_copied_out_weights(name, tie_grad):
    train_under_changing_ties(name, TIES, tie_grad)


NORMS = {
    "gpt2": ({"ln_1"}, {"ln_2"}),
    "llama": ({"input_layernorm"}, {"post_attention_layernorm"}),
    "gemma3_text": (
        {"input_layernorm", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"},
        {"pre_feedforward_layernorm", "post_feedforward_layernorm"},
    ),
    "bert": ({"attention.output.LayerNorm"}, {"output.LayerNorm"}),
    "vit": ({"layernorm_before"}, {"layernorm_after"}),
    "t5": ({"layer.0.layer_norm", "layer.1.layer_norm"}, {"layer.2.layer_norm"}),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_belong_to_the_part_that_they_are_applied_for(name):
    layers = apart(find_layers(build(name)))
    modules = [{parameter.rpartition(".")[0] for parameter in part} for part in layers.parts]
    found = [{n for n in part if "norm" in n.lower() or "ln_" in n} for part in modules]
    assert tuple(found) == NORMS[name]
    assert sorted(layers.shared) == sorted(find_layers(build(name)).shared)
    assert not set(layers.parts[0]) & set(layers.parts[1])


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_one_tie_vector_for_both_parts_is_that_of_whole_layers(tie_grad):
    vector, losses, gradients = [0, 0, 2, 0], [], []
    for n_parts in (1, 2):
        torch.manual_seed(0)
        model = tied("llama", vector * n_parts, tie_grad=tie_grad).train()
        model.initialize(4)
        loss = model(**batch("llama")).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert losses[0] == losses[1]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(g, gradients[1][name]) for name, g in gradients[0].items())


def test_initial_values_do_not_depend_on_which_parts_are_tied():
    one, other = tied("gpt2"), tied("gpt2", TIES)
    one.initialize(7)
    other.initialize(7)
    weights = dict(one.named_parameters())
    assert sum(1 for _ in other.parameters()) < len(weights)
    for key, value in other.named_parameters():
        assert torch.equal(value, weights[key])


@pytest.mark.parametrize("name", GENERATE)
def test_cached_generation_of_parts_equals_that_of_copied_out_weights(name):
    model = tied(name, TIES).eval()
    prompt = batch(name)["input_ids"][:, :4]
    arguments = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "use_cache": True}
    arguments |= {"return_dict_in_generate": True, "output_logits": True}
    both = (model.library, copied_out(name, model))
    mine, its = (torch.stack(each.generate(prompt, **arguments).logits) for each in both)
    torch.testing.assert_close(mine, its)


def test_activations_computed_again_change_no_gradient():
    gradients = []
    for again in (False, True):
        torch.manual_seed(0)
        model = tied("gemma3_text", TIES, checkpoint_activations=again).train()
        model(**batch("gemma3_text")).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its)


def test_owner_gradients_compute_none_for_the_tied_part_alone():
    seen = {}
    model = tied("llama", TIES).train()
    for i, layer in enumerate(model.layers.modules):
        for part in (layer.self_attn.q_proj, layer.mlp.up_proj):
            part.register_forward_hook(
                lambda module, *_, i=i: seen.setdefault(i, []).append(module.weight.requires_grad)
            )
    model(**batch("llama")).loss.backward()
    assert seen == {0: [True, True], 1: [True, False], 2: [False, True], 3: [False, False]}


def test_an_mlp_is_of_no_kind_of_attention():
    model = tied("gemma3_text", TIES)
    assert model.ties.tolist() == TIES
    with pytest.raises(ValueError, match=r"layer 1 \(full_attention\) to layer 0 \(sliding"):
        model.set_blocks(
            np.zeros(2 * N_LAYER, dtype=int), {u: model.independent(u) for u in (0, 4)}
        )


def layers_of(kind, config):
    with torch.device("meta"):
        return find_layers(kind(config))


def test_what_is_tied_by_names_is_never_guessed():
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    # GLM 4 lists the norm behind its attention behind that before its MLP.
    glm = layers_of(transformers.Glm4ForCausalLM, transformers.Glm4Config(**small))
    # One norm, whose output both parts get.
    phi = layers_of(transformers.PhiForCausalLM, transformers.PhiConfig(**small))
    for layers in (glm, phi):
        with pytest.raises(ValueError, match=r"which norm is whose .*Choose tie_parts='block'"):
            apart(layers)
    mamba = transformers.MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4)
    with pytest.raises(ValueError, match=r"MambaBlock can't be told apart, since mixer.* neither"):
        apart(layers_of(transformers.MambaForCausalLM, mamba))
    linear = [nn.ModuleDict({"mlp": nn.Linear(2, 2)}) for _ in range(2)]
    names = ("mlp.weight", "mlp.bias")
    with pytest.raises(ValueError, match="since it has no attention"):
        apart(LayerList("layers", linear, (names,), ((), ()), ("", "")))


def test_a_norm_that_the_first_layer_lacks_leaves_the_others_to_the_mlp():
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = transformers.ModernBertConfig(**small, intermediate_size=24, vocab_size=37)
    config.pad_token_id = 0
    layers = apart(layers_of(transformers.ModernBertForMaskedLM, config))
    assert layers.private == ((), ("attn_norm.weight",))
    assert "mlp_norm.weight" in layers.parts[1]
