"""Texts that are made, not read: always the same ones."""

from __future__ import annotations

import numpy as np


def grammar(n: int) -> str:
    """Sentences of a small grammar with agreement in number: n characters, always the same."""
    rng = np.random.default_rng(0)
    nouns = ("cat", "dog", "bird", "child", "teacher", "robot", "river", "tree")
    verbs = ("see", "chase", "find", "know", "follow", "like", "hear", "draw")
    adjectives = ("small", "old", "red", "quiet", "happy", "strange")
    pieces: list[str] = []
    length = 0
    while length < n:
        plural = rng.integers(2, size=2)
        picks = rng.integers(len(nouns), size=2), rng.integers(len(adjectives), size=2)
        phrases = [
            f"{'the' if k else ('some' if plural[k] else 'a')} {adjectives[picks[1][k]]} "
            f"{nouns[picks[0][k]]}{'s' if plural[k] else ''}"
            for k in range(2)
        ]
        verb = verbs[rng.integers(len(verbs))] + ("" if plural[0] else "s")
        sentence = f"{phrases[0]} {verb} {phrases[1]}.\n"
        pieces.append(sentence)
        length += len(sentence)
    return "".join(pieces)[:n]
