"""Small models of the library `transformers` learn each task: the loss falls, the metric rises."""

import json
import math
import random

import pytest
import torch

from tests.tiegym.data.written import write
from tiegym.data.tasks.load import load_task

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.1,
}


def bert(task):
    return transformers.BertConfig(
        vocab_size=task.vocab_size,
        max_position_embeddings=task.block_size,
        pad_token_id=task.pad_id,
        num_labels=max(task.n_labels, 1),
        **SMALL,
    )


def measure(task, model, data):
    """The loss and the metrics on the test split."""
    scores, total, n = task.metrics(), 0.0, 0
    model.eval()
    with torch.no_grad():
        for inputs, targets in data.batches("test", 64, 400):
            outputs = model(**inputs)
            scores.add(outputs, targets)
            total += float(task.loss(outputs, targets)) * task.count(targets)
            n += task.count(targets)
    return total / n, scores.figures()


def train(task, build, steps, batch=16, learning_rate=3e-3):
    """The test loss and metrics before and after."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    data, generator = task.data(CPU), torch.Generator().manual_seed(0)
    before = measure(task, model, data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    model.train()
    for _ in range(steps):
        inputs, targets = data.sample("train", batch, generator)
        loss = task.loss(model(**inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, measure(task, model, data)


def test_masked_tokens():
    task = load_task("masked-language-modeling", "synthetic:40000", tokenizer="word", block_size=32)
    (loss, _), (after, scores) = train(
        task, lambda: transformers.BertForMaskedLM(bert(task)), steps=60
    )
    assert loss == pytest.approx(task.uniform_loss, rel=0.05)
    assert after < 0.85 * task.uniform_loss
    assert scores["accuracy"] > 0.1


def test_classes_of_images():
    task = load_task("image-classification", "digits")
    config = transformers.ViTConfig(
        image_size=8, patch_size=2, num_channels=1, num_labels=10, **SMALL
    )
    (loss, chance), (after, scores) = train(
        task, lambda: transformers.ViTForImageClassification(config), steps=60, batch=32
    )
    assert loss == pytest.approx(math.log(10), rel=0.1)
    assert after < 0.7 * task.uniform_loss
    assert scores["accuracy"] > 0.6 > chance["accuracy"]


def test_classes_of_pairs_of_texts(tmp_path):
    words = ("red", "blue", "green", "grey")
    draw = random.Random(0)
    pairs = [(draw.choice(words), draw.choice(words), k) for k in range(400)]
    rows = [
        {"text": f"{a} {k}", "text2": f"{b} {k}", "label": "same" if a[0] == b[0] else "other"}
        for a, b, k in pairs
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    task = load_task("classification", str(path), tokenizer="word-12", block_size=8)
    (loss, _), (after, scores) = train(
        task, lambda: transformers.BertForSequenceClassification(bert(task)), steps=120
    )
    assert loss == pytest.approx(math.log(2), rel=0.2)
    assert after < 0.5 * task.uniform_loss
    assert scores["accuracy"] > 0.8


def test_scores(tmp_path):
    rows = [{"text": f"{'good ' * (k % 7)}end {k}", "score": k % 7} for k in range(300)]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    task = load_task("classification", str(path), tokenizer="word-4", block_size=12)
    _, (after, scores) = train(
        task, lambda: transformers.BertForSequenceClassification(bert(task)), steps=60
    )
    assert after < 0.5 * task.uniform_loss
    assert scores["pearson"] > 0.7


def test_answers(tmp_path):
    draw = random.Random(0)
    rows = []
    for k in range(400):
        kinds = draw.sample(["colour", "size", "age", "name"], 4)
        values = {kind: f"{kind[0]}{draw.randrange(5)}" for kind in kinds}
        context = " ".join(f"{kind} {value}" for kind, value in values.items()) + f" {k}"
        asked = draw.choice(kinds)
        start = context.index(asked) + len(asked) + 1
        row = (f"what {asked}", context, values[asked], start)
        rows.append(
            dict(zip(("question", "context", "answer_text", "answer_start"), row, strict=True))
        )
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    task = load_task("question-answering", str(path), tokenizer="word-40", block_size=16)
    (loss, _), (after, scores) = train(
        task, lambda: transformers.BertForQuestionAnswering(bert(task)), steps=120
    )
    assert loss == pytest.approx(task.uniform_loss, rel=0.2)
    assert after < 0.5 * task.uniform_loss
    assert scores["exact_match"] > 0.5
    assert scores["f1"] >= scores["exact_match"]
