"""Texts that are made, not read: always the same ones."""

from __future__ import annotations

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"

NESTED_SIZES = {"train": 600_000, "validation": 40_000, "test": 70_000}
"""Letters of each split of `nested`."""


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


def nested(
    order: int, symbols: int = 8, resets: int = 2, noise: float = 0.2, seed: int = 0
) -> dict[str, str]:
    """Letters whose next one takes several nested table look-ups: work for a layer each.

    With tables g_1 (innermost) to g_m, m = order - 1, the letter after x_1 ... x_order is
    g_m[x_order][... g_2[x_3][g_1[x_2][x_1]] ...], or a uniformly random one with probability
    `noise`. In each table `resets` rows are constant, so that what came before them is forgotten,
    and the others permutations, so that nothing is. A predictor that sees more letters is
    better, at every order; none is below the entropy of the noise.

    Args:
        order: Letters that the next one depends on, at least 2.
        symbols: Letters of the alphabet, at most 26.
        resets: Constant rows of each table, at most `symbols`.
        noise: Share of random letters, in (0, 1].
        seed: Fixes the tables, which all splits share, and each split's own random stream.

    Returns:
        The text of each split, of `NESTED_SIZES` and a line end. Contexts recur in all splits, as
        there are symbols ** order of them.
    """
    tables = _tables(order, symbols, resets, np.random.default_rng(seed))
    texts = {}
    for number, (split, size) in enumerate(NESTED_SIZES.items()):
        rng = np.random.default_rng((seed, number))
        x: list[int] = rng.integers(symbols, size=order).tolist()
        is_random = (rng.random(size) < noise).tolist()
        letters = rng.integers(symbols, size=size).tolist()
        for random, letter in zip(is_random, letters, strict=True):
            following = x[-order]
            for table, row in zip(tables, x[len(x) - order + 1 :], strict=True):
                following = table[row][following]
            x.append(letter if random else following)
        texts[split] = "".join(LETTERS[i] for i in x[order:]) + "\n"
    return texts


def _tables(
    order: int, symbols: int, resets: int, rng: np.random.Generator
) -> list[list[list[int]]]:
    """The tables from the innermost to the outermost, each (symbols, symbols)."""
    tables = []
    for _ in range(order - 1):
        table = np.array([rng.permutation(symbols) for _ in range(symbols)])
        rows = rng.permutation(symbols)[:resets]
        table[rows] = rng.permutation(symbols)[:resets, None]
        tables.append(table.tolist())
    return tables
