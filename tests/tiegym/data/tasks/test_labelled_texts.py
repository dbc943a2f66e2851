"""Labelled texts of GLUE, of the hub, of files: their splits, columns and labels."""

import json

import datasets
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from tests.tiegym.data.written import write
from tiegym.data import hub
from tiegym.data.tasks import glue, labelled_texts
from tiegym.data.tasks.load import load_task
from tiegym.data.tasks.row_files import files_of_splits, read_columns

CPU = torch.device("cpu")


def glue_split(name, tag, n, unlabelled=False):
    """A split in the form that GLUE has on the hub."""
    columns = {c: [f"{tag} {c} {k}" for k in range(n)] for c in glue.TASKS[name].columns}
    labels = [k % 5 + 0.25 for k in range(n)] if name == "stsb" else [k % 2 for k in range(n)]
    return columns | {"label": [-1] * n if unlabelled else labels, "idx": list(range(n))}


def glue_features(name):
    label = (
        datasets.Value("float32") if name == "stsb" else datasets.ClassLabel(names=["no", "yes"])
    )
    texts = {c: datasets.Value("string") for c in glue.TASKS[name].columns}
    return datasets.Features(texts | {"label": label, "idx": datasets.Value("int32")})


METRICS = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "mnli": ("accuracy",),
    "mnli-mismatched": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}


@pytest.mark.parametrize("name", METRICS)
def test_each_task_of_glue_has_its_metrics_and_its_labelled_splits(serve, name):
    held_out = {"validation": glue_split(name, "dev", 6)}
    if name.startswith("mnli"):
        kinds = ("matched", "mismatched")
        held_out = {f"validation_{kind}": glue_split(name, kind, 6) for kind in kinds}
    secret = glue_split(name, "secret", 6, unlabelled=name != "stsb")
    asked = serve(glue_features(name), train=glue_split(name, "train", 60), **held_out, test=secret)
    task = load_task("classification", f"glue:{name}", block_size=48)
    assert asked == [("nyu-mll/glue", name.partition("-")[0])]
    assert task.metric_names == METRICS[name]
    assert task.n_rows == {"train": 57, "validation": 3, "test": 6}
    assert task.label_names == (() if name == "stsb" else ("no", "yes"))
    assert task.n_labels == (1 if name == "stsb" else 2)
    source = labelled_texts.read(f"glue:{name}")
    tags = {split: {row.first.split()[0] for row in rows} for split, rows in source.rows.items()}
    of_test = {"mnli": "matched", "mnli-mismatched": "mismatched"}.get(name, "dev")
    assert tags == {"train": {"train"}, "validation": {"train"}, "test": {of_test}}
    inputs, targets = task.data(CPU).sample("test", 3, torch.Generator().manual_seed(0))
    assert ("token_type_ids" in inputs) == (len(glue.TASKS[name].columns) == 2)
    assert targets.dtype == (torch.float32 if name == "stsb" else torch.int64)


def test_texts_that_data_sets_use_in_several_rows_are_in_one_split(serve):
    premises = [f"premise {k // 3}" for k in range(300)]
    columns = {
        "premise": premises,
        "hypothesis": [f"h {k}" for k in range(300)],
        "label": [0, 1, 2] * 100,
    }
    serve(train=columns, validation_matched={k: v[:6] for k, v in columns.items()})
    rows = labelled_texts.read("glue:mnli").rows
    assert len(rows["validation"]) == 15
    assert not {r.first for r in rows["train"]} & {r.first for r in rows["validation"]}


@pytest.mark.parametrize("corpus", ["glue:sst2", "hf:some/thing"])
def test_without_a_network_the_error_names_the_data_and_what_to_bring(
    tmp_path, monkeypatch, corpus
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "none")
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(
        OSError, match=rf"corpus='{corpus}' could not be loaded.*columns text, text2"
    ):
        load_task("classification", corpus)


def test_a_data_set_of_the_hub_by_its_id(serve):
    rows = {"text": [f"row {k}" for k in range(40)], "label": [k % 3 for k in range(40)]}
    asked = serve(train=rows, dev={"text": ["x", "y"], "label": [0, 1]})
    source = labelled_texts.read("hf:some/thing:part")
    assert asked == [("some/thing", "part")]
    assert {s: len(found) for s, found in source.rows.items()} == {
        "train": 38,
        "validation": 2,
        "test": 2,
    }
    serve(train={"text": ["a", "b", "c"] * 9, "label": [0.5, 1.5, 2.5] * 9})
    assert labelled_texts.read("hf:some/thing").is_score


def test_an_unlabelled_split_is_an_error(serve):
    rows = {"text": [f"row {k}" for k in range(40)], "label": [k % 2 for k in range(40)]}
    serve(train=rows, validation=rows, test={"text": ["x"], "label": [-1]})
    with pytest.raises(ValueError, match="row 1 of the test split has no label"):
        load_task("classification", "hf:some/thing")


def table(path, kind, columns):
    """Writes a table, of whichever kind."""
    names, rows = list(columns), list(zip(*columns.values(), strict=True))
    if kind == "csv":
        cells = [names, *rows]
        return write(path, "".join(",".join(f'"{c}"' for c in row) + "\n" for row in cells))
    if kind == "jsonl":
        return write(
            path, "".join(json.dumps(dict(zip(names, r, strict=True))) + "\n" for r in rows)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("names", labelled_texts.PAIRS)
def test_a_file_of_two_texts_and_labels(tmp_path, kind, names):
    columns = {
        names[0]: [f"first, {k}" for k in range(60)],
        names[1]: [f"second {k}" for k in range(60)],
        "label": [("good", "bad")[k % 2] for k in range(60)],
        "other": [k for k in range(60)],
    }
    task = load_task("classification", str(table(tmp_path / f"a.{kind}", kind, columns)))
    assert task.label_names == ("bad", "good")
    assert task.metric_names == ("accuracy",)
    assert task.n_rows == {"train": 54, "validation": 3, "test": 3}
    assert "token_type_ids" in next(iter(task.data(CPU).batches("test", 2)))[0]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_of_splits_with_scores(tmp_path, kind):
    for split, n in (("train", 40), ("val", 4), ("test", 5)):
        columns = {"text": [f"{split} {k}" for k in range(n)], "score": [k / 4 for k in range(n)]}
        table(tmp_path / f"{split}.{kind}", kind, columns)
    write(tmp_path / "README.md", "About it.")
    task = load_task("classification", str(tmp_path))
    assert task.n_rows == {"train": 40, "validation": 4, "test": 5}
    assert (task.n_labels, task.metric_names) == (1, ("pearson", "spearman"))
    variance = torch.arange(40).double().div(4).var(correction=0)
    assert task.uniform_loss == pytest.approx(float(variance / 2))
    _, targets = next(iter(task.data(CPU).batches("train", 40)))
    mean = targets.mean().expand(40, 1)
    assert task.loss({"logits": mean}, targets) == pytest.approx(task.uniform_loss)


def test_a_file_sorted_by_label_has_all_classes_in_all_splits(tmp_path):
    columns = {
        "text": [f"row {k}" for k in range(600)],
        "label": ["a"] * 300 + ["b"] * 300,
    }
    task = load_task("classification", str(table(tmp_path / "a.csv", "csv", columns)))
    for split in ("train", "validation", "test"):
        targets = torch.cat([t for _, t in task.data(CPU).batches(split, 64)])
        assert set(targets.tolist()) == {0, 1}


def test_the_same_rows_in_files_of_any_kind_have_one_hash_and_others_another(tmp_path):
    columns = {"text": [f"row {k}" for k in range(40)], "label": [1, 2] * 20}
    hashes = {
        load_task("classification", str(table(tmp_path / f"a.{kind}", kind, columns))).sha256
        for kind in ("csv", "jsonl", "parquet")
    }
    assert len(hashes) == 1
    columns["label"][3] = 1
    assert (
        load_task("classification", str(table(tmp_path / "b.csv", "csv", columns))).sha256
        not in hashes
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"], "text2": ["y"]}, "needs a column of classes, label, or of scores, score"),
        (
            {"body": ["x"], "label": ["y"]},
            "needs a column of texts.* it has the columns body, label",
        ),
        (
            {"text": ["x"], "label": ["y"], "score": [1]},
            "needs a column of classes.* score; it has",
        ),
        (
            {"question": ["x"], "sentence": ["x"], "passage": ["y"], "label": [1]},
            "just one of these",
        ),
    ],
)
def test_columns_that_are_missing_or_too_many(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        load_task("classification", str(table(tmp_path / "a.csv", "csv", columns)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": None, "label": "a"}, "column 'text': row 41 is missing"),
        ({"text": 3, "label": "a"}, "column 'text': row 41 is a float, not a string"),
        ({"label": "a"}, "column 'text': row 41 is missing"),
    ],
)
def test_texts_that_are_none(tmp_path, row, message):
    rows = [{"text": f"row {k}", "label": "ab"[k % 2]} for k in range(40)] + [row]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(ValueError, match=message):
        load_task("classification", str(path))


def test_folders_that_leave_splits_in_doubt(tmp_path):
    columns = {"text": ["x", "y"], "label": ["a", "b"]}
    cases = {
        "mixed": (
            ("train.csv", "more.csv"),
            "some tables are named for a split, and others are not",
        ),
        "two": (("train-test.csv",), "the name of 'train-test.csv' means train and test"),
        "untrained": (("test.csv", "dev.csv"), "has no training rows"),
        "none": (("a.md",), "is a folder without tables"),
        "text": (("train.txt",), "'train.txt' is text without labels"),
    }
    for name, (files, message) in cases.items():
        for file in files:
            if file.endswith(".csv"):
                table(tmp_path / name / file, "csv", columns)
            else:
                write(tmp_path / name / file, "text")
        with pytest.raises(ValueError, match=message):
            load_task("classification", str(tmp_path / name))
    with pytest.raises(ValueError, match=r"'.*a\.txt' is no table"):
        load_task("classification", str(write(tmp_path / "a.txt", "text")))


def test_a_link_in_a_folder_is_not_followed(tmp_path):
    outside = table(tmp_path / "outside.csv", "csv", {"text": ["x"], "label": ["secret"]})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").symlink_to(outside)
    with pytest.raises(ValueError, match=r"'train\.csv' is a link"):
        load_task("classification", str(tmp_path / "in"))
    (tmp_path / "in" / "train.csv").unlink()
    (tmp_path / "in" / "train").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="'train' is a link"):
        load_task("classification", str(tmp_path / "in"))


def test_some_files_with_scores_and_some_with_labels(tmp_path):
    table(tmp_path / "train.csv", "csv", {"text": ["x"] * 3, "label": [1, 2, 3]})
    table(tmp_path / "test.csv", "csv", {"text": ["x"] * 3, "score": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"test\.csv' has scores, but .*train\.csv' has labels"):
        load_task("classification", str(tmp_path))


def test_some_rows_with_one_text_and_some_with_two(tmp_path):
    table(tmp_path / "train.csv", "csv", {"text": list("abcd"), "label": [1, 2, 1, 2]})
    pair = {"text": ["x"], "text2": ["y"], "label": [1]}
    table(tmp_path / "test.csv", "csv", pair)
    with pytest.raises(ValueError, match="some rows have one text, and others have two"):
        load_task("classification", str(tmp_path))


def test_a_data_set_without_a_training_split_is_an_error(serve):
    serve(test={"text": ["x"], "label": [1]})
    with pytest.raises(ValueError, match="has no split 'train'; it has test"):
        load_task("classification", "hf:some/thing")


def test_an_empty_split_is_an_error(tmp_path):
    table(tmp_path / "train.csv", "csv", {"text": list("abcd"), "label": [1, 2, 1, 2]})
    write(tmp_path / "test.csv", "text,label\n")
    with pytest.raises(ValueError, match="the test split is empty"):
        load_task("classification", str(tmp_path))


def test_strings_of_a_table_that_are_not_utf_8_name_the_file(tmp_path):
    table = pa.table({"text": pa.array([b"\xff\xfe", b"b"]), "label": ["x", "y"]})
    broken = pa.Array.from_buffers(pa.string(), 2, table["text"].chunk(0).buffers())
    parquet.write_table(pa.table({"text": broken, "label": ["x", "y"]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet' can't be read as parquet: .*UTF8"):
        read_columns(tmp_path / "b.parquet", ("text", "label"))


def test_tables_of_two_splits_with_the_same_rows_are_refused(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\na,x\nb,y\n")
    with pytest.raises(ValueError, match=r"'.*train\.csv' are the same, but one is for"):
        files_of_splits(tmp_path, "c")
