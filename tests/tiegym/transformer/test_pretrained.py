"""Models of `transformers` under ties equal the library's own with all weights copied out."""

import copy

import numpy as np
import pytest
import torch

from tests.tiegym.transformer.tiny import GENERATE, MODELS, batch, build
from tiegym import parts
from tiegym.transformer import tying
from tiegym.transformer.layer_list import find_layers
from tiegym.transformer.layer_stats import layer_stats, sample_weights
from tiegym.transformer.position_gradients import PositionGradients, watching
from tiegym.transformer.pretrained import LayerWeights, TiedPretrainedModel

N_LAYER = 4


@pytest.fixture(autouse=True)
def same_weights_every_time():
    torch.manual_seed(0)


def tied(name, vector=None, **arguments):
    library = build(name)
    vector = np.arange(N_LAYER) if vector is None else within(library, vector)
    return TiedPretrainedModel(library, vector, **arguments)


def within(library, vector):
    """The nearest ties that its kinds allow; an MLP's have none."""
    kinds = find_layers(library).kinds + ("",) * (len(vector) - N_LAYER)
    return parts.within_kinds(np.array(vector), kinds, N_LAYER)


def copied_out(name, model):
    """The library's model in which every layer has a copy of the weights that it uses."""
    plain = build(name)
    plain.load_state_dict(model.library.state_dict())
    return plain.train(model.training)


def gradients_of(plain, model, tie_grad):
    """What a tied model's gradients must be, from those of each layer of the plain one."""
    expected = {name: p.grad for name, p in plain.named_parameters()}
    names, roots = model.layers.shared_names, model.roots
    for root in set(roots) if tie_grad == "sum" else ():
        users = [names[unit] for unit, r in enumerate(roots) if r == root]
        for name, *same in zip(names[root], *users, strict=True):
            expected[name] = torch.stack([plain.get_parameter(n).grad for n in same]).sum(0)
    return expected


def assert_same_gradients(model, plain):
    expected = gradients_of(plain, model, model.tie_grad)
    for name, p in model.named_parameters():
        name = name.removeprefix("library.")
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("name", MODELS)
def test_training_under_changing_ties_equals_copied_out_weights(name, tie_grad):
    train_under_changing_ties(name, [0, 0, 1, 3], tie_grad)


def train_under_changing_ties(name, vector, tie_grad):
    """Trains and changes ties at random; all of it must equal copied-out weights."""
    model = tied(name, vector, tie_grad=tie_grad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(sum(map(ord, name)))
    for step in range(3):
        model.train()
        plain, inputs = copied_out(name, model), batch(name, step)
        optimizer.zero_grad()
        loss, expected = model(**inputs).loss, plain(**inputs).loss
        loss.backward()
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert_same_gradients(model, plain)
        optimizer.step()
        model.eval()
        with torch.no_grad():
            evaluated = copied_out(name, model)(**inputs)
            torch.testing.assert_close(model(**inputs).logits, evaluated.logits)
        before, old_roots = model.library.state_dict(), model.roots
        before = {key: value.clone() for key, value in before.items()}
        new = within(model.library, parts.sample(N_LAYER, model.n_parts, rng))
        tying.retie(model, optimizer, new)
        assert model.ties.tolist() == new.tolist()
        assert_weights_came_from_old_roots(model, before, old_roots)
        assert_each_weight_exists_once(model, optimizer)


def assert_weights_came_from_old_roots(model, before, old_roots):
    after, names = model.library.state_dict(), model.layers.shared_names
    for unit, root in enumerate(model.roots):
        for name, old in zip(names[unit], names[old_roots[root]], strict=True):
            assert torch.equal(after[name], before[old])


def assert_each_weight_exists_once(model, optimizer):
    path = f"library.{model.layers.path}."
    inside = [p for n, p in model.named_parameters() if n.startswith(path)]
    private = sum(map(len, model.layers.private))
    assert len({p.untyped_storage().data_ptr() for p in inside}) == len(inside)
    own = [model.layers.parts[root // N_LAYER] for root in set(model.roots)]
    assert len(inside) == sum(map(len, own)) + private
    every = list(model.parameters())
    assert set(optimizer.state) == set(every) == set(optimizer.param_groups[0]["params"])
    moments = [v for s in optimizer.state.values() for v in s.values()]
    held = sum(v.numel() * v.element_size() for v in moments)
    assert held == sum(8 * p.numel() + 4 for p in every)


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_private_norms_train_at_every_position(name, tie_grad):
    model = tied(name, [0, 0, 0, 3], tie_grad=tie_grad, private_norms=True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        plain = copied_out(name, model)
        optimizer.zero_grad()
        loss, expected = model(**batch(name)).loss, plain(**batch(name)).loss
        loss.backward()
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert_same_gradients(model, plain)
        optimizer.step()
        tying.retie(model, optimizer, np.array([0, 1, 1, 0]))
        assert_each_weight_exists_once(model, optimizer)
    norms = [p for n, p in model.named_parameters() if "orm" in n and model.layers.path in n]
    assert len(norms) == 2 * N_LAYER * (2 if name == "roberta" else 1)
    assert len({p.flatten()[0].item() for p in norms if p.detach().mean() > 0.5}) > N_LAYER


@pytest.mark.parametrize("name", GENERATE)
def test_cached_generation_equals_that_of_copied_out_weights(name):
    model = tied(name, [0, 0, 0, 1]).eval()
    prompt = batch(name)["input_ids"][:, :4]

    def steps(library, use_cache):
        """The logits behind each token, (tokens, B, V)."""
        arguments = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
        arguments |= {"return_dict_in_generate": True, "output_logits": True}
        return torch.stack(library.generate(prompt, use_cache=use_cache, **arguments).logits)

    cached = steps(model.library, use_cache=True)
    torch.testing.assert_close(cached, steps(copied_out(name, model), use_cache=True))
    torch.testing.assert_close(cached, steps(model.library, use_cache=False))


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_initial_values_depend_on_the_seed_and_the_layer_alone(name):
    one, other = tied(name), tied(name, [0, 0, 2, 1])
    state = torch.get_rng_state()
    one.initialize(7)
    other.initialize(7)
    assert torch.equal(torch.get_rng_state(), state)
    weights = dict(one.named_parameters())
    for key, value in other.named_parameters():
        assert torch.equal(value, weights[key])
    one.initialize(8)
    matrices = [key for key, value in other.named_parameters() if value.ndim == 2]
    assert not any(torch.equal(weights[key], other.get_parameter(key)) for key in matrices)


def test_initial_values_are_the_library_s():
    model = tied("gpt2")
    model.initialize(0)
    first = LayerWeights({n: p.detach() for n, p in model.independent(0).named_parameters()})
    assert first.get_parameter("attn.c_attn.weight").std() == pytest.approx(0.02, rel=0.1)
    residual = 0.02 / np.sqrt(2 * N_LAYER)
    assert first.get_parameter("mlp.c_proj.weight").std() == pytest.approx(residual, rel=0.1)
    assert torch.all(first.get_parameter("ln_1.weight") == 1)
    assert not first.get_parameter("mlp.c_fc.bias").any()


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "t5"])
def test_activations_computed_again_change_nothing_with_dropout(name):
    model = tied(name, [0, 0, 0, 1], checkpoint_activations=True)
    plain = TiedPretrainedModel(build(name, dropout=0.3), model.ties)
    plain.load_state_dict(model.state_dict())
    model.library.load_state_dict(plain.library.state_dict())
    for module, same in zip(model.modules(), plain.modules(), strict=True):
        if isinstance(module, torch.nn.Dropout):
            module.p = same.p
        for attribute in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, getattr(same, attribute))
    losses = []
    for each in (model.train(), plain.train()):
        torch.manual_seed(3)
        loss = each(**batch(name)).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1]
    with torch.no_grad():
        assert losses[0] != plain.eval()(**batch(name)).loss.item()
    for p, same in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, same.grad)


def test_owner_gradients_compute_none_at_tied_positions():
    seen = {"owner": {}, "sum": {}}
    for tie_grad, of in seen.items():
        model = tied("llama", [0, 0, 2, 2], tie_grad=tie_grad).train()
        for i, layer in enumerate(model.layers.modules):
            layer.mlp.down_proj.register_forward_hook(
                lambda module, *_, i=i, of=of: of.update({i: module.weight.requires_grad})
            )
        model(**batch("llama"))
    assert seen["owner"] == {0: True, 1: False, 2: True, 3: False}
    assert seen["sum"] == dict.fromkeys(range(4), True)


def test_gradients_of_single_positions_are_those_of_copied_out_layers():
    model = tied("qwen3", [0, 0, 0, 3], tie_grad="sum").train()
    plain = copied_out("qwen3", model)
    gradients = PositionGradients(of_groups=frozenset({0, 1, 2}), of_cursor=frozenset({2}))
    with watching(model, gradients):
        model(**batch("qwen3")).loss.backward()
    plain(**batch("qwen3")).loss.backward()
    assert_same_gradients(model, plain)
    for name, gradient in gradients.whole.items():
        torch.testing.assert_close(
            gradient, plain.get_parameter(f"model.layers.2.{name}").grad, rtol=1e-4, atol=1e-7
        )


def test_frozen_weights_get_no_gradient():
    model = tied("bert", [0, 1, 1, 3])
    optimizer = torch.optim.AdamW(model.parameters())
    tying.retie(model, optimizer, np.array([0, 1, 1, 3]), [False, True, False, False])
    model.train()(**batch("bert")).loss.backward()
    assert all(p.grad is None for p in model.independent(1).parameters())
    assert all(p.grad is not None for p in model.independent(3).parameters())


@pytest.mark.parametrize("name", ["t5", "vit"])
def test_layer_stats_are_of_all_matrices(name):
    model = tied(name, [0, 0, 2, 2]).train()
    before = sample_weights(model)
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[1], before[2])
    model(**batch(name)).loss.backward()
    last = [n for n, p in model.independent(2).named_parameters() if p.ndim == 2][-1]
    with torch.no_grad():
        model.independent(2).get_parameter(last).add_(1)
    moved = layer_stats(model, before)[:, 0]
    assert moved[:2].tolist() == [0, 0]
    assert (moved[2:] > 0).all()


def test_a_copy_shares_nothing_with_the_model():
    model = tied("gpt2", [0, 0, 0, 1])
    twin = copy.deepcopy(model)
    before = twin(**batch("gpt2")).logits
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert torch.equal(twin(**batch("gpt2")).logits, before)
    assert sum(1 for _ in twin.parameters()) == sum(1 for _ in model.parameters())
    twin(**batch("gpt2")).loss.backward()
    assert all(p.grad is None for p in model.parameters())


def test_layers_of_two_kinds_are_not_tied():
    with pytest.raises(ValueError, match=r"layer 1 \(full_attention\) to layer 0 \(sliding"):
        TiedPretrainedModel(build("gemma3_text"), np.array([0, 0, 0, 0]))
    model = tied("gemma3_text")
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="only layers of one kind"):
        tying.retie(model, optimizer, np.array([0, 1, 1, 1]))


def test_what_not_all_layers_have_stays_with_its_position():
    model = tied("t5", [0, 0, 0, 0])
    assert model.layers.path == "decoder.block"
    assert model.layers.private[0] == ("layer.0.SelfAttention.relative_attention_bias.weight",)
    assert not any(model.layers.private[1:])
    names = [n for n, _ in model.named_parameters() if "decoder" in n and "relative" in n]
    assert len(names) == 1


class Unequal(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, n) for n in (4, 5))


def test_a_model_without_equal_layers_says_so():
    with pytest.raises(ValueError, match="Unequal has no list of equal layers"):
        find_layers(Unequal())
