"""The Hugging Face hub: what names mean there, its data sets' texts, and whether it can be reached.

A name of the hub is never a path of this machine.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from tiegym.data import splits, tables
from tiegym.data.splits import SPLITS, Texts
from tiegym.data.table_files import Columns

_LOCAL = "a folder with train.*, validation.* and test.* as text, JSON lines, CSV or Parquet"


def validate(name: str) -> None:
    """Checks hf:ID[:CONFIG] without a network.

    Raises:
        ValueError: If ID can't be a data set's: OWNER/NAME or NAME.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    identity, separator, configuration = name.removeprefix("hf:").partition(":")
    try:
        validate_repo_id(identity)
    except HFValidationError as error:
        reason = str(error)
    else:
        # `datasets` names folders of its cache by it, and takes no name with one of these.
        bad = re.search(r'[<>:/\\|?*"\s\0]', configuration) or configuration.startswith(".")
        if not bad and (configuration or not separator):
            return
        reason = f"CONFIG={configuration!r} is no name"
    raise ValueError(
        f"corpus={name!r}: write hf:ID or hf:ID:CONFIG, with ID as OWNER/NAME or NAME on the hub "
        f"({reason}). For files of this machine, give their path without hf:"
    )


def read_texts(name: str, place: str) -> Texts:
    """The text of each split of a data set.

    Args:
        name: What messages call the corpus.
        place: ID or ID:CONFIG.

    Raises:
        OSError: If it is neither stored here nor to be had from the network.
        ValueError: If it has no training split, or no column that is clearly the text.
    """
    identity, _, configuration = place.partition(":")
    loaded = load(name, identity, configuration or None)
    keys = keys_of_splits(loaded, name)
    texts = {
        split: "".join(
            "".join(tables.lines(loaded[key].with_format("arrow")[:], f"{name}, split {key},"))
            for key in keys[split]
        )
        for split in SPLITS
    }
    return splits.complete(texts)


def keys_of_splits(loaded: Iterable[str], name: str) -> dict[str, list[str]]:
    """What a data set calls each of our splits; it may have several parts of one, or none.

    Args:
        loaded: The names of its splits.
        name: What messages call it.

    Raises:
        ValueError: If it has no training split.
    """
    keys = {s: [key for key in loaded if key.lower() in splits.KEYWORDS[s]] for s in SPLITS}
    if not keys["train"]:
        raise ValueError(f"corpus={name!r} has no split 'train'; it has {', '.join(loaded)}")
    return keys


def columns(table: Any, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    """The wanted columns of a split that it has, and the names of all of its columns."""
    names = [name for name in table.column_names if name in wanted]
    found: Columns = table.select_columns(names).with_format("arrow")[:].to_pydict()
    return found, table.column_names


def load(name: str, identity: str, configuration: str | None, local: str = _LOCAL) -> Any:
    """A data set as the library `datasets` has it: tables by the names of their splits.

    Args:
        name: What messages call the corpus.
        identity: Its ID.
        configuration: Its configuration, if it has several.
        local: What to give in its place without a network.

    Raises:
        OSError: If it is neither stored here nor to be had from the network.
        ValueError: If it is no data set.
    """
    import datasets
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if identity in _PACKAGED_DATASETS_MODULES:  # "csv", say: not a data set, but a way to read one
        raise ValueError(f"corpus={name!r}: {identity!r} is no data set of the hub")
    # The library prefers a folder of that name to the hub. It doesn't with the long form, which
    # its versions before 4.8 refuse; they do so without reading anything.
    path = f"hf://datasets/{identity}" if os.path.lexists(identity) else identity
    try:
        with offline_if_unreachable():
            try:
                return datasets.load_dataset(path, configuration)
            except RuntimeError:  # a data set that is a script; the hub has it converted, too
                return datasets.load_dataset(path, configuration, revision="refs/convert/parquet")
    except Exception as error:  # the library raises many kinds, by what went wrong where
        raise OSError(
            f"corpus={name!r} could not be loaded ({type(error).__name__}: {error}). Without a "
            f"network, either give the path of a local copy ({local}), or copy the Hugging Face "
            "cache of a machine that has it and point HF_HOME to it; downloads need an HF_HOME "
            "that can be written"
        ) from error


def is_reachable(timeout: float = 3.0) -> bool:
    """Tries one connection to the hub; behind a proxy, which alone can tell, it says yes.

    Args:
        timeout: Seconds.
    """
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return False
    address = urlsplit(ENDPOINT)
    if address.scheme in getproxies():
        return True
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout).close()
    except OSError:
        return False
    return True


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Within it, `datasets` uses only what is stored here if the hub can't be reached.

    Both libraries read these two settings at every request, and offer no argument for them.
    """
    import datasets
    import huggingface_hub

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    offline = not is_reachable()
    for place in places:
        place.HF_HUB_OFFLINE = offline
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
