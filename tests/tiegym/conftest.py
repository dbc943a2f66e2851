"""Arguments of environments with models of the library `transformers`."""

import json

import pytest

from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """A file of texts with a class each."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [f"{'cats purr' if n % 2 else 'dogs bark'} {n},{n % 2}" for n in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def arguments(labelled):
    """The arguments of an environment of each of `MODELS`."""

    def of(model, **changes):
        found = SMALL | {"model": model, "dropout": 0.1}
        if model == "t5":
            found |= {"task": "classification", "corpus": labelled, "block_size": 24}
        if model == "vit":
            found |= {"corpus": "digits"}
        if model == "gemma3_text":
            found |= {"model_config": json.dumps(MIXED)}
        return found | changes

    return of
