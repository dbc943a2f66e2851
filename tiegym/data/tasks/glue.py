"""The nine tasks of GLUE (Wang et al. 2019): their columns, their metrics, their splits.

The labels of GLUE's own test splits are secret: there its validation split is the test split, and
validation is taken from train.
"""

from __future__ import annotations

from dataclasses import dataclass

PLACE = "nyu-mll/glue"
"""Where it is on the Hugging Face hub."""


@dataclass(frozen=True)
class GlueTask:
    """What to read of one, and how it is measured.

    Attributes:
        columns: Its texts.
        metrics: As in GLUE's own table.
        configuration: Its name on the hub.
        test: The labelled split that serves as test.
    """

    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    configuration: str
    test: str = "validation"


_SENTENCES = ("sentence1", "sentence2")
_ACCURACY = ("accuracy",)

TASKS = {
    "cola": GlueTask(("sentence",), ("matthews_correlation",), "cola"),
    "sst2": GlueTask(("sentence",), _ACCURACY, "sst2"),
    "mrpc": GlueTask(_SENTENCES, ("accuracy", "f1"), "mrpc"),
    "qqp": GlueTask(("question1", "question2"), ("accuracy", "f1"), "qqp"),
    "stsb": GlueTask(_SENTENCES, ("pearson", "spearman"), "stsb"),
    "mnli": GlueTask(("premise", "hypothesis"), _ACCURACY, "mnli", "validation_matched"),
    "mnli-mismatched": GlueTask(
        ("premise", "hypothesis"), _ACCURACY, "mnli", "validation_mismatched"
    ),
    "qnli": GlueTask(("question", "sentence"), _ACCURACY, "qnli"),
    "rte": GlueTask(_SENTENCES, _ACCURACY, "rte"),
    "wnli": GlueTask(_SENTENCES, _ACCURACY, "wnli"),
}
"""By name; MNLI has two test splits: of the genres of its training split, and of others."""
