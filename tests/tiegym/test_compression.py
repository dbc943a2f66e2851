"""The arguments quantize and factorize: what they stand for, and what is refused."""

import math

import pytest

from tests.tiegym.small import SMALL
from tiegym import compression
from tiegym.bench import make
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.training.population_limits import check_population


@pytest.mark.parametrize("n", [*range(1, 65), 97, 128, 384, 768, 1600, 6400, 2**31 - 1])
def test_factors_are_three_as_equal_as_can_be(n):
    found = compression.factors(n)
    assert math.prod(found) == n
    assert list(found) == sorted(found, reverse=True)
    if n <= 64:
        least = min(
            a + b + n // (a * b)
            for a in range(1, n + 1)
            for b in range(1, n + 1)
            if n % (a * b) == 0
        )
        assert sum(found) == least


def test_ranks_are_the_given_one_or_what_they_can_be_at_most():
    sizes = compression.core_sizes(24, 8, rank=5)
    assert sizes == [(1, 4, 4), (4, 3, 5), (5, 2, 5), (5, 2, 4), (4, 2, 2), (2, 2, 1)]
    full = compression.core_sizes(24, 8, rank=99)
    assert [size[2] for size in full] == [4, 12, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantize": "int2"}, "quantize='int2' is unknown: choose None, int8, int4"),
        ({"quantize": ""}, "quantize='' is unknown"),
        ({"quantize": 8}, "quantize=8 must be of type"),
        ({"factorize": "tt"}, "factorize='tt' is unknown: choose None, or tt:R"),
        ({"factorize": ""}, "factorize='' is unknown"),
        ({"factorize": "tt:0"}, "factorize='tt:0' is unknown.*at least 1"),
        ({"factorize": "tt:-1"}, "factorize='tt:-1' is unknown"),
        ({"factorize": "tt:04"}, "factorize='tt:04' is unknown"),
        ({"factorize": "tt:4.5"}, "factorize='tt:4.5' is unknown"),
        ({"factorize": "tt:99999999999"}, "is unknown"),
        ({"factorize": "cp:4"}, "factorize='cp:4' is unknown"),
        ({"factorize": "tt:17"}, "'tt:17' has a rank above 16, .*n_embd=16 can be had: lower R"),
        ({"factorize": "tt:4", "n_embd": 10}, "n_embd=10 into 3 factors.*choose another width"),
        ({"factorize": "tt:4", "n_embd": 62}, "n_embd=62 into 3 factors"),
        (
            {"quantize": "int4", "tie_change": "soft", "private": "lora:2"},
            "tie_change='soft'.*choose tie_change='hard', or leave both None",
        ),
        ({"factorize": "tt:4", "tie_change": "soft", "private": "lora:2"}, "tie_change='soft'"),
        ({"quantize": "int8", "dtype": "bfloat16"}, "float32.*and not 'bfloat16'"),
        ({"quantize": "int8", "model": "gpt2"}, "quantize='int8' must be None with model='gpt2'"),
        ({"factorize": "tt:2", "model": "gpt2"}, "factorize='tt:2' must be None with model="),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TieConfig(**SMALL | wrong)


@pytest.mark.parametrize(("name", "value"), [("quantize", "int8"), ("factorize", "tt:2")])
def test_populations_and_tables_refuse_them(name, value):
    config = TieConfig(**SMALL | {name: value})
    with pytest.raises(ValueError, match=f"{name}='{value}' can't be had for a population"):
        check_population(config)
    with pytest.raises(InputError, match=f"env.{name}='{value}' can't be recorded.*={None}"):
        make.make_plan(make.Options(table="tree-3x2-stdlib-owner", env=config))
