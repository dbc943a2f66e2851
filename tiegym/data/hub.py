"""Whether the Hugging Face hub can be reached: its clients retry for half a minute to find out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies


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
