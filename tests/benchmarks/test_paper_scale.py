"""The GPU's benchmark at toy sizes on a CPU, and its calculation against what autograd keeps."""

import dataclasses

import pytest
import torch

from benchmarks import paper_scale
from benchmarks.paper_memory import FLOAT32, Setting, activation_bytes, loss_bytes, settings
from benchmarks.paper_scale import AIMS, Options, measure, run
from tiegym import ties
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer

TOY = Options(
    n_layer=8,
    n_head=2,
    n_embd=16,
    block_size=8,
    vocab_size=5000,
    batch_size=2,
    iterations=2,
    dtypes=("float32",),
    device="cpu",
)


@pytest.mark.parametrize("setting", settings(8), ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16-mixed"])
def test_each_setting_runs_and_has_the_state_of_its_independent_layers(setting, dtype):
    figures = measure(TOY, setting, dtype)
    n = setting.n_independent or TOY.n_layer
    assert figures["state"] == pytest.approx(16 * TOY.shape.params(n), rel=0.01)
    assert figures["seconds"] > 0


def test_the_program_prints_a_row_for_each_setting_and_aim(monkeypatch, capsys):
    monkeypatch.setattr(paper_scale, "_in_a_process_of_its_own", measure)
    monkeypatch.setattr(
        paper_scale,
        "settings",
        lambda n_layer: [
            Setting("plain loop", 0, chunked=False),
            Setting("7 independent, owner", 7),
        ],
    )
    run(TOY)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    assert [c[0] for c in cells if "float32" in c[1]] == [
        "plain loop",
        "7 independent, owner",
        "model state",
        "peak memory",
        "time an iteration",
    ]
    params = TOY.shape.params
    assert float(cells[3][3]) == pytest.approx(params(7) / params(8), abs=1e-3)


def test_a_process_of_its_own_measures_the_same():  # the start of a process takes seconds
    setting = Setting("all tied, owner", 1)
    apart = paper_scale._in_a_process_of_its_own(TOY, setting, "float32")
    assert apart.keys() == measure(TOY, setting, "float32").keys()
    assert apart["state"] == measure(TOY, setting, "float32")["state"]


def test_a_setting_that_fails_is_named_and_the_rest_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(paper_scale.sys, "executable", "false")
    run(TOY)
    rows = capsys.readouterr().out
    assert rows.count("| float32 | failed: exit status 1 |") == len(settings(TOY.n_layer))


def test_the_aims_name_settings_that_are_measured():
    names = {setting.name for setting in settings(48)}
    assert {name for aim in AIMS for name in aim[2:4]} <= names


def kept_bytes(n_layer, vector, tie_grad, checkpoint):
    shape = Shape(vocab_size=50, n_layer=n_layer, n_head=2, n_embd=32, block_size=16)
    options = {"checkpoint_activations": checkpoint}
    model = TiedTransformer(shape, ties.parse(vector, n_layer), tie_grad, **options)
    model.initialize(0)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = model.train().hidden(torch.zeros(3, 16, dtype=torch.long))
    del result
    return sum(n for n, _ in kept.values())


@pytest.mark.parametrize(
    ("setting", "vector"),
    [
        (Setting("", 0), "independent"),
        (Setting("", 1), "tied"),
        (Setting("", 1, "sum"), "tied"),
        (Setting("", 1, checkpoint=True), "tied"),
    ],
)
def test_the_calculated_activations_are_those_that_autograd_keeps(setting, vector):
    def calculated(n_layer):
        shape = Shape(vocab_size=50, n_layer=n_layer, n_head=2, n_embd=32, block_size=16)
        return activation_bytes(shape, 3, setting, FLOAT32, False, False)

    def kept(n_layer):
        return kept_bytes(n_layer, vector, setting.tie_grad, setting.checkpoint)

    assert calculated(5) - calculated(3) == kept(5) - kept(3)


def test_the_calculated_loss_is_smaller_in_chunks_and_grows_with_them():
    shape, setting = TOY.shape, Setting("", 1)
    whole = loss_bytes(shape, 4096, dataclasses.replace(setting, chunked=False), 2, False, 0)
    small, large = (loss_bytes(shape, 4096, setting, 2, False, chunk) for chunk in (64, 512))
    assert small < large < whole
