"""Exported models of `transformers`: equal outputs here and in the plain library."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

import tiegym
from tests.tiegym.exported import tensor_bytes
from tests.tiegym.small import SMALL
from tests.tiegym.transformer.tiny import EXPERTS, MODELS
from tiegym import cli
from tiegym.data.tasks.text_encoding import text_encoder
from tiegym.transformer import tensor_file
from tiegym.transformer.library_folder import untied

MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
TIES = (0, 0, 0, 1)
WITHIN_KINDS = (0, 1, 0, 1)
TASKS = {
    "bert": "question-answering",
    "roberta": "classification",
    "t5": "classification",
}
"""By model; the others do what is their default."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files of labelled texts and of questions."""
    folder = tmp_path_factory.mktemp("data")
    rows = [f"{'cats purr' if n % 2 else 'dogs bark'} {n},{n % 2}" for n in range(60)]
    (folder / "texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    asked = [
        {
            "question": f"who is {n}?",
            "context": f"cat {n} sits",
            "answer_text": f"cat {n}",
            "answer_start": 0,
        }
        for n in range(60)
    ]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    return folder


def arguments(model, data, **changes):
    found = SMALL | {"model": model, "dropout": 0.1, "initial_ties": TIES, "test_tokens": 32}
    found |= {"task": TASKS.get(model, "auto"), "max_iters": 2, "iters_per_step": 2}
    if found["task"] != "auto":
        found |= {"block_size": 40, "corpus": str(data / "questions.jsonl")}
    if found["task"] == "classification":
        found |= {"corpus": str(data / "texts.csv")}
    if model == "vit":
        found |= {"corpus": "digits"}
    if model == "gemma3_text":
        found |= {"model_config": json.dumps(MIXED), "initial_ties": WITHIN_KINDS}
    return found | changes


def trained(model, data, **changes):
    env = tiegym.TieEnv(**arguments(model, data, **changes), action="joint")
    env.reset(seed=0)
    env.step(env.ties[1:])
    return env


def outputs(model, inputs):
    """Logits, or scores of beginnings and ends, of a model in evaluation."""
    with torch.no_grad():
        found = model.eval()(**inputs)
    return [found[name] for name in ("logits", "start_logits", "end_logits") if name in found]


def inputs_of(env):
    inputs, _ = env._trainer.validation_set
    return {n: v for n, v in inputs.items() if n not in env._trainer.workload._ignored}


def plain(env, folder, **kwargs):
    kind = type(env.model.library).__name__
    auto = {
        "ForCausalLM": "AutoModelForCausalLM",
        "LMHeadModel": "AutoModelForCausalLM",
        "ForMaskedLM": "AutoModelForMaskedLM",
        "ForSequenceClassification": "AutoModelForSequenceClassification",
        "ForQuestionAnswering": "AutoModelForQuestionAnswering",
        "ForImageClassification": "AutoModelForImageClassification",
    }
    name = next(auto[end] for end in auto if kind.endswith(end))
    return getattr(transformers, name).from_pretrained(folder, **kwargs)


def stored(path):
    with safe_open(path, framework="pt") as file:
        return {name: torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("name", "private"),
    [*((name, "none") for name in MODELS), *((name, "norms") for name in ("gpt2", "qwen3", "vit"))],
)
def test_both_forms_of_an_exported_model_compute_the_same(name, private, data, tmp_path):
    env = trained(name, data, private=private)
    model, inputs = env.model, inputs_of(env)
    expected = outputs(model, inputs)
    assert all(values.std() > 0 for values in expected)

    env.export(tmp_path / "m.safetensors")
    loaded = tiegym.load_model(tmp_path / "m.safetensors")
    assert not loaded.training
    assert loaded.ties.tolist() == env.ties.tolist()
    for mine, theirs in zip(outputs(loaded, inputs), expected, strict=True):
        assert torch.equal(mine, theirs)
    assert loaded.private_norms is (private == "norms")
    each_once = sum(p.numel() for p in model.parameters())
    assert sum(stored(tmp_path / "m.safetensors").values()) == each_once
    assert tensor_bytes(tmp_path / "m.safetensors") == env._info()["stored_bytes"]
    assert sum(p.numel() for p in loaded.parameters()) == each_once

    env.export(tmp_path / "hf", to="hf")
    theirs, info = plain(env, tmp_path / "hf", output_loading_info=True)
    assert not any(info.values()), info  # nothing missing, nothing left over
    assert theirs.config.ties == env.ties.tolist()
    for mine, found in zip(outputs(theirs, inputs), expected, strict=True):
        torch.testing.assert_close(found, mine)
    tied = model.n_layer - len(set(model.roots))
    copies = tied * sum(p.numel() for p in model.independent(0).parameters())
    assert sum(stored(tmp_path / "hf/model.safetensors").values()) == each_once + copies


@pytest.mark.parametrize("private", ["none", "norms"])
def test_weights_of_another_type_are_copied_counted_and_exported(private, tmp_path):
    given = {"model": "deepseek_v3", "model_config": json.dumps(EXPERTS), "dtype": "bfloat16"}
    env = tiegym.TieEnv(**SMALL | given, initial_ties="cycle:2", private=private)
    _, info = env.reset(seed=0)
    env.step(1)
    assert len({p.dtype for p in env.model.parameters()}) == 2
    assert info["model_state_bytes"] == env._info()["model_state_bytes"]
    env.save_checkpoint(tmp_path / "c")
    twin = tiegym.TieEnv(**vars(env.config))
    twin.load_checkpoint(tmp_path / "c")
    expected = outputs(env.model, inputs_of(env))
    env.export(tmp_path / "m.safetensors")
    assert tensor_bytes(tmp_path / "m.safetensors") == info["stored_bytes"]
    buffers = [name for name in stored(tmp_path / "m.safetensors") if name.endswith("_bias")]
    assert len(buffers) == env.config.n_layer  # each position has its own, tied or not
    for model in (twin.model, tiegym.load_model(tmp_path / "m.safetensors")):
        assert torch.equal(*outputs(model, inputs_of(env)), *expected)
        dtypes = [
            (p.dtype, q.dtype)
            for p, q in zip(model.parameters(), env.model.parameters(), strict=True)
        ]
        assert all(one == other for one, other in dtypes)
    assert twin.step(1)[1] == env.step(1)[1]


@pytest.mark.parametrize("name", ["llama", "roberta"])
def test_training_goes_on_from_an_exported_folder(name, data, tmp_path):
    env = trained(name, data)
    env.export(tmp_path / "hf", to="hf")
    expected, inputs = outputs(env.model, inputs_of(env)), inputs_of(env)
    place = f"hf:{tmp_path / 'hf'}"
    given = {n: getattr(env.config, n) for n in ("block_size", "task", "corpus")}
    for ties, found in (("saved", env.ties.tolist()), ("independent", [0, 1, 2, 3])):
        other = tiegym.TieEnv(**arguments(place, data, **given | {"initial_ties": ties}))
        _, info = other.reset(seed=1)
        assert info["ties"].tolist() == found
        for mine, theirs in zip(outputs(other.model, inputs), expected, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_saved_ties_are_those_of_an_exported_folder(data, tmp_path):
    env = trained("gpt2", data)
    env.model.library.save_pretrained(tmp_path / "hf", state_dict=untied(env.model))
    arguments_of = arguments(f"hf:{tmp_path / 'hf'}", data, initial_ties="saved")
    with pytest.raises(ValueError, match=r"'saved', but the config.json of .* has no ties"):
        tiegym.TieConfig(**arguments_of)
    path = tmp_path / "hf/config.json"
    entries = json.loads(path.read_text())
    for ties, message in (
        ([0, 0, 5, 0], "layer 2 points at 5"),
        ([0, 0], "2 entries"),
        ([0, True, 0, 0], "has no ties"),
        ("tied", "has no ties"),
    ):
        path.write_text(json.dumps(entries | {"ties": ties}))
        with pytest.raises(ValueError, match=message):
            tiegym.TieConfig(**arguments_of)
    with pytest.raises(ValueError, match="saved"):
        tiegym.TieConfig(initial_ties="saved")


@pytest.mark.parametrize(("name", "task"), [("gpt2", "auto"), ("bert", "auto"), ("t5", None)])
def test_the_tokenizer_gives_texts_the_ids_that_the_task_gives(name, task, data, tmp_path):
    env = trained(
        name, data, **({} if task is None else {"task": task, "corpus": "synthetic:20000"})
    )
    env.export(tmp_path / "hf", to="hf")
    env.export(tmp_path / "m.safetensors")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    text, tokenizer = "the old cat", env.task.tokenizer
    ids = theirs(text)["input_ids"]
    assert theirs.model_max_length >= env.config.block_size
    assert tiegym.load_tokenizer(tmp_path / "m.safetensors").sha256 == tokenizer.sha256
    if name == "gpt2":
        assert ids == tokenizer.encode(text).tolist()
        return
    encoder = text_encoder(tokenizer, text)
    row = encoder.rows([text], None, 24)
    assert ids == row["ids"][0, : len(ids)].tolist()
    assert (theirs.pad_token_id, theirs.mask_token_id) == (encoder.pad, encoder.mask)
    row = encoder.rows([text], ["no"], 24)
    both = theirs(text, "no")["input_ids"]
    assert both == row["ids"][0, : len(both)].tolist()


def test_images_have_no_tokenizer(data, tmp_path):
    env = trained("vit", data)
    env.export(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="has no tokenizer: its model sees images"):
        tiegym.load_tokenizer(tmp_path / "m.safetensors")
    assert cli.main(["export", str(tmp_path / "m.safetensors")]) is None
    made = {path.name for path in (tmp_path / "m-hf").iterdir()}
    assert made == {"config.json", "model.safetensors", "preprocessor_config.json"}


def pictures(folder, channels):
    """Writes random pictures of two classes, each with its name; returns their pixels by path."""
    from PIL import Image

    pixels, rng = {}, np.random.default_rng(0)
    for n in range(60):
        path = folder / str(n % 2) / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (8, 12) if channels == 1 else (8, 12, 3)
        pixels[path] = (rng.random(size) * (90 + n % 2 * 120)).astype(np.uint8)
        Image.fromarray(pixels[path]).save(path)
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_the_library_makes_the_environment_s_inputs_of_pictures(channels, data, tmp_path):
    from PIL import Image

    paths = pictures(tmp_path / "pictures", channels)
    env = trained("vit", data, corpus=str(tmp_path / "pictures"))
    env.export(tmp_path / "hf", to="hf")
    env.export(tmp_path / "m.safetensors")
    cli.main(["export", str(tmp_path / "m.safetensors")])  # without the environment
    inputs, _ = env._trainer.validation_set
    for folder in ("hf", "m-hf"):
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / folder)
        made = [processor(Image.open(path), return_tensors="pt")["pixel_values"] for path in paths]
        assert made[0].shape == (1, channels, 8, 12)
        theirs = torch.cat(made)
        for row in inputs["pixel_values"]:
            distance = (theirs - row).abs().amax((1, 2, 3)).min()
            assert distance < 1e-5


def test_a_standardisation_of_a_stranger_is_checked(data, tmp_path):
    trained("vit", data).export(tmp_path / "m")
    tensors, values = tensor_file.read_tensors(tmp_path / "m", "model")
    for images in (
        [1],
        {"mean": [1.0]},
        {"mean": [1.0], "deviation": [0.0]},
        {"mean": [1e300], "deviation": [1.0]},
        {"mean": ["1"], "deviation": [1.0]},
        {"mean": [1.0], "deviation": [1.0, 1.0, 1.0]},
    ):
        tensor_file.write_tensors(tmp_path / "x", "model", tensors, values | {"images": images})
        with pytest.raises(ValueError, match=r"is damaged: .*images"):
            tiegym.load_model(tmp_path / "x")


def test_a_loaded_model_is_a_tied_one_that_can_be_trained_and_generates(data, tmp_path):
    env = trained("llama", data)
    env.export(tmp_path / "m.safetensors")
    loaded = tiegym.load_model(tmp_path / "m.safetensors")
    prompt = torch.tensor([[5, 9, 3]])
    expected = tiegym.generate(env.model, prompt, 6, temperature=0)
    assert torch.equal(tiegym.generate(loaded, prompt, 6, temperature=0), expected)
    twins = [model.train() for model in (loaded, env.model)]
    for model in twins:
        model.zero_grad()
        torch.manual_seed(0)
        model(input_ids=prompt, labels=prompt).loss.backward()
    for mine, theirs in zip(*(m.parameters() for m in twins), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_folder_that_holds_something_is_left_alone(data, tmp_path):
    env = trained("gpt2", data)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("taken", "link"):
        with pytest.raises(FileExistsError, match="choose another folder"):
            env.export(tmp_path / name, to="hf")
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["notes.txt"]
    assert not any((tmp_path / "elsewhere").iterdir())
    with pytest.raises(ValueError, match="to='onnx' is unknown"):
        env.export(tmp_path / "x", to="onnx")


def test_a_folder_appears_whole_or_not_at_all(data, tmp_path, monkeypatch):
    env = trained("gpt2", data)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tiegym.transformer.library_folder._write_tokenizer", fail)
    with pytest.raises(OSError, match="No space left"):
        env.export(tmp_path / "hf", to="hf")
    assert not any(tmp_path.iterdir())


def test_only_models_of_our_own_kind_are_initial_weights(data, tmp_path):
    trained("gpt2", data).export(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="is of the library transformers"):
        tiegym.TieEnv(**SMALL, initial_weights=str(tmp_path / "m.safetensors"))
