"""Names of tasks and of their data: checked before anything is read."""

import subprocess
import sys

import pytest

from tiegym.data.tasks import glue
from tiegym.data.tasks.load import load_task
from tiegym.data.tasks.names import HEADS, NAMED, validate_task


@pytest.mark.parametrize("task", HEADS)
def test_every_task_has_data_on_every_machine_and_says_what_it_needs(task):
    validate_task(task, NAMED[task][0] if task in NAMED else "stdlib")
    validate_task(task, "hf:some/thing")
    validate_task(task, ".")


def test_all_of_glue_has_names():
    for name in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"):
        validate_task("classification", f"glue:{name}")
    assert len(glue.TASKS) == 10  # MNLI has two test splits


@pytest.mark.parametrize(
    ("task", "corpus", "message"),
    [
        ("classify", "stdlib", "task='classify' is unknown: choose language-modeling, masked-"),
        ("auto", "stdlib", "task='auto' is unknown"),
        (
            "classification",
            "digits",
            "'digits' is no data for task='classification': choose stdlib",
        ),
        ("classification", "glue:sst3", "'glue:sst3' is no data for task='classification'"),
        ("classification", "wikitext-2", "'wikitext-2' is no data for task='classification'"),
        ("classification", "synthetic:9", "'synthetic:9' is no data"),
        ("question-answering", "glue:rte", "no data for task='question-answering'.*squad"),
        (
            "image-classification",
            "stdlib",
            "no data for task='image-classification': choose digits",
        ),
        ("language-modeling", "digits", "corpus='digits' is unknown"),
        ("masked-language-modeling", "squad", "corpus='squad' is unknown"),
        ("classification", "hf:../x", "write hf:ID or hf:ID:CONFIG"),
        ("classification", "nothing", "corpus='nothing' is unknown: choose stdlib, glue:cola"),
        ("classification", "no\0path", "no path holds a NUL"),
        ("classification", "/dev/null", "neither a file nor a folder"),
    ],
)
def test_what_is_no_task_or_no_data_for_it(task, corpus, message):
    with pytest.raises(ValueError, match=message):
        validate_task(task, corpus)
    with pytest.raises(ValueError, match=message):
        load_task(task, corpus)


def test_paths_and_tokenizers_that_are_not_there():
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        validate_task("classification", "no/such.csv")
    with pytest.raises(ValueError, match="tokenizer='letters' is unknown"):
        validate_task("classification", "stdlib", tokenizer="letters")
    validate_task("image-classification", "digits", tokenizer="letters")  # images have none


def test_names_are_checked_without_torch():
    code = (
        "import sys; from tiegym.data.tasks.names import validate_task; "
        "validate_task('classification', 'glue:rte'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
