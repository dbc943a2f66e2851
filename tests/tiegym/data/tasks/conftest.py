"""What tests of tasks share: a stand-in for the hub, made of data sets that a test builds."""

import datasets
import pytest

from tiegym.data import hub


@pytest.fixture
def serve(monkeypatch):
    """Lets `datasets.load_dataset` give the splits; returns what it was asked for."""
    asked = []

    def with_splits(features=None, **splits):
        made = datasets.DatasetDict(
            {
                name: datasets.Dataset.from_dict(columns, features=features)
                for name, columns in splits.items()
            }
        )
        monkeypatch.setattr(hub, "is_reachable", lambda: False)
        monkeypatch.setattr(datasets, "load_dataset", lambda *a: asked.append(a) or made)
        return asked

    return with_splits
