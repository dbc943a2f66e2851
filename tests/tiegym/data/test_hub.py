"""Names of the hub: what they may be, and that they are never paths of this machine."""

import json
import shutil

import datasets
import pytest

from tests.tiegym.data.written import texts, write
from tiegym.data import hub
from tiegym.data.corpora import load_corpus, validate_corpus
from tiegym.data.sources import HUB


def rows(tag: str) -> str:
    return "".join(json.dumps({"text": f"{tag} row {k}"}) + "\n" for k in range(300))


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Stores a data set as if it had been downloaded from the hub, under the name cimec/lambada."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    path = write(tmp_path / "train.jsonl", rows("HUB"))
    made = datasets.load_dataset_builder("json", data_files=str(path), cache_dir=str(cache))
    made.download_and_prepare()
    copy = cache / "cimec___lambada" / "plain_text" / "0.0.0" / "abc"
    shutil.copytree(made.cache_dir, copy)
    for file in copy.glob("json-*"):
        file.rename(file.with_name(file.name.replace("json-", "lambada-")))
    description = copy / "dataset_info.json"
    changed = {"dataset_name": "lambada", "config_name": "plain_text"}
    description.write_text(json.dumps(json.loads(description.read_text()) | changed))


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("name", ["lambada", "hf:cimec/lambada"])
def test_a_folder_of_a_hub_name_is_not_read_in_its_place(stored, working_folder, name):
    for folder in ("lambada", "cimec/lambada", name):
        for split in ("train", "test"):
            write(working_folder / folder / f"{split}.jsonl", rows("LOCAL"))
        write(working_folder / folder / "lambada.py", "raise SystemExit('run')")
        write(working_folder / folder / "state.json", "{}")
    assert texts(load_corpus(name))["train"].startswith("HUB row 0\n")


@pytest.mark.parametrize("name", ["lambada", "ptb", "hf:some/thing", "hf:thing", "hf:a/thing:part"])
def test_what_is_not_stored_is_an_error_though_a_folder_has_its_name(
    tmp_path, working_folder, monkeypatch, name
):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "none")
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    for folder in (name, HUB.get(name, name.removeprefix("hf:")).partition(":")[0]):
        write(working_folder / folder / "train.txt", "local\n" * 99)
    with pytest.raises(OSError, match=rf"corpus='{name}' could not be loaded"):
        load_corpus(name)


@pytest.mark.parametrize("name", ["hf:csv", "hf:text", "hf:parquet", "hf:imagefolder"])
def test_a_way_to_read_files_is_no_data_set(working_folder, name):
    write(working_folder / "train.csv", "text\nlocal\n")
    with pytest.raises(ValueError, match="is no data set of the hub"):
        load_corpus(name)


@pytest.mark.parametrize(
    "name",
    [
        "hf:../x",
        "hf:/abs",
        "hf:./x",
        "hf:.",
        "hf:..",
        "hf:a/b/c",
        "hf:a/../b",
        "hf:a/..",
        "hf:~/x",
        "hf:a//b",
        "hf:a/",
        "hf:a\\b",
        "hf:C:\\x",
        "hf:a b",
        "hf:a/b\n",
        "hf:a\0b",
        "hf:hf://datasets/a",
        "hf:a/b@main",
        "hf:a[b]",
        "hf:a*",
        "hf:",
        "hf::part",
        "hf:a/b:",
        "hf:a/b:c:d",
        "hf:a/b:../c",
        "hf:a/b:.c",
        "hf:a/b:c/d",
    ],
)
def test_what_cannot_be_a_name_of_the_hub_is_refused_before_anything_is_read(name):
    with pytest.raises(ValueError, match="write hf:ID or hf:ID:CONFIG"):
        validate_corpus(name)


@pytest.mark.parametrize(
    "name",
    ["hf:a", "hf:a/b", "hf:Salesforce/wikitext:wikitext-2-raw-v1", "hf:a_b/c.d-e:20220301.en"],
)
def test_names_of_the_hub_are_let_pass(name):
    validate_corpus(name)


def test_splits_of_other_names_are_seen(monkeypatch):
    made = {
        key: datasets.Dataset.from_dict({"text": [f"{key} {k}" for k in range(50)]})
        for key in ("train", "dev", "eval", "unsupervised")
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda *a: datasets.DatasetDict(made))
    found = texts(load_corpus("hf:some/thing"))
    assert {split: text.split()[0] for split, text in found.items()} == {
        "train": "train",
        "validation": "dev",
        "test": "eval",
    }
    assert "unsupervised" not in "".join(found.values())


def test_a_text_column_of_lists_is_an_error_that_names_the_split(monkeypatch):
    made = datasets.Dataset.from_dict({"id": ["a"] * 9, "text": [["x"]] * 9})
    monkeypatch.setattr(datasets, "load_dataset", lambda *a: datasets.DatasetDict(train=made))
    with pytest.raises(ValueError, match="split train, has a column 'text', but its type is list"):
        load_corpus("hf:some/thing")
