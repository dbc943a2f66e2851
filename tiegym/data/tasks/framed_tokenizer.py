"""A tokenizer with the special tokens of `tiegym.data.tasks.text_encoding`, for other libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from tiegym.data.tasks.text_encoding import SPECIAL, text_encoder
from tiegym.data.tokenization import Tokenizer

if TYPE_CHECKING:
    import tokenizers


def framed_tokenizer(tokenizer: Tokenizer) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """An object of the library `tokenizers` that gives one text or two the ids of a task's rows.

    Unlike a task, which takes any text for text, it knows special tokens by their names.

    Args:
        tokenizer: The task's.

    Returns:
        The object, and the names of its special tokens: of "pad" and "mask", and of "cls" and
        "sep" where it sets them around texts.

    Raises:
        ValueError: If its vocabulary has no room for them.
    """
    import tokenizers
    from tokenizers import processors

    some = tokenizer.decode(np.arange(min(64, tokenizer.vocab_size)))
    encoder = text_encoder(tokenizer, some)
    ids = {"pad": encoder.pad, "mask": encoder.mask}
    if before := encoder.single.before:
        ids["cls"] = before[0]
    if behind := encoder.single.behind:
        ids["sep"] = behind[-1]
    values = json.loads(tokenizer.to_library().to_str())
    have = tokenizer.to_library().get_vocab()
    added = {role: number for role, number in ids.items() if number >= tokenizer.vocab_size}
    names = {role: _new_name(role, have) for role in added}
    if isinstance(values["model"].get("vocab"), dict):  # where there may be gaps between ids
        values["model"]["vocab"] |= {names[role]: number for role, number in added.items()}
    inner = tokenizers.Tokenizer.from_str(json.dumps(values))
    in_order = sorted(added, key=lambda role: added[role])
    inner.add_special_tokens([names[role] for role in in_order])
    if any(inner.token_to_id(names[role]) != number for role, number in added.items()):
        raise ValueError(f"tokenizer={tokenizer.name!r} has no room for special tokens")
    if "cls" in added:
        cls, sep = names["cls"], names["sep"]
        inner.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}",
            pair=f"{cls} $A {sep} $B:1 {sep}:1",
            special_tokens=[(cls, ids["cls"]), (sep, ids["sep"])],
        )
    own = {role: str(inner.id_to_token(number)) for role, number in ids.items()}
    return inner, own


def _new_name(role: str, have: dict[str, int]) -> str:
    """A name that no token has yet."""
    return next(name for name in (*SPECIAL[role], f"<|tiegym-{role}|>") if name not in have)
