"""Arguments as plain values of the right type: what a frozen dataclass of them checks first."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np


def make_plain(config: Any) -> None:
    """Turns values that mean a plain one into it, in place: records and specs are JSON.

    Args:
        config: A dataclass.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        plain = value
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            plain = value.item()
        if isinstance(plain, os.PathLike):
            plain = os.fspath(plain)
        for kind in (str, int, float):  # subclasses of them, such as members of an enumeration
            if isinstance(plain, kind) and type(plain) not in (kind, bool):
                plain = kind.__str__(plain) if kind is str else kind(plain)
        if plain is not value:
            object.__setattr__(config, field.name, plain)


def check_types(config: Any, but: str) -> None:
    """Rejects a value of another type than the field's, and one outside a Literal.

    Args:
        config: A dataclass; an integer where a float is wanted becomes one, in place.
        but: The field that isn't checked.

    Raises:
        ValueError: Naming the argument, its value and what is allowed.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        if get_origin(hint) is Literal:
            if not isinstance(value, str) or value not in get_args(hint):
                allowed = ", ".join(get_args(hint))
                raise ValueError(f"{field.name}={value!r} is unknown: choose one of {allowed}")
            continue
        if field.name == but:
            continue
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError as error:
                raise ValueError(f"{field.name} must be finite, not so large a number") from error
            object.__setattr__(config, field.name, value)
        kinds = get_args(hint) or (hint,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{field.name}={value!r} must be of type {names}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name}={value!r} must be finite")
