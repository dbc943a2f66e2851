"""The studies that compare policies: what each of them holds, in which setting.

How they are run and put on the page is in `baselines.results`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from baselines.settings import DEEP, MAIN, MODELS, SMALL
from tiegym.config import TieConfig

IN_STUDIES = ("qlearning", "dqn", "ppo", "maskable_ppo", "recurrent_ppo", "pairwise")
"""The agents that learn in the run as well as beforehand."""
LEARNING = (*IN_STUDIES, "decision_s4")
"""All agents that learn, on tables too."""
NULLS = ("random", "random-fixed", "random-raw")
"""Random tying, a random vector that is kept, and uniform draws over the raw actions."""
PATTERNS = {
    6: (
        *("independent", "tied", "cycle:2", "sequence:2", "cycle-rev:2", "cycle:3", "sequence:3"),
        *("sandwich", "middle-cycle:2", "cycle:4", "cycle:5"),
    ),
    12: (
        *("independent", "tied", "cycle:2", "sequence:2", "cycle-rev:2", "cycle:3", "sequence:3"),
        *("sandwich", "middle-cycle:2"),
    ),
}
"""Patterns of the literature, by number of layers: of one to four, and some beyond."""
SCHEDULES = tuple(
    f"schedules --schedule {name}" for name in ("share-then-unshare", "progressive-split")
)
SURROGATES = tuple(f"surrogate --size {size}" for size in (2, 3, 4))
"""What was learnt from all sharings of six layers of WikiText-2 in 200 iterations, of each size."""
DRAWN = tuple(f"random-fixed --size {size}" for size in (2, 3, 4))
"""The null models of these: a drawn sharing of the same size, kept."""
AHEAD = (SURROGATES[0], DRAWN[0])
"""The one that at six layers was better than the patterns of its size, and its null model, for more
layers: for three it chooses `sandwich`, for four it was no better than `middle-cycle:2`."""
PRETRAIN_RUNS = 4
PRETRAINED = tuple(
    f"{agent} --pretrain-runs {PRETRAIN_RUNS}" for agent in ("dqn", "maskable_ppo", "pairwise")
)
SOFT = " --env.private lora:4 --env.tie-change soft"
"""What removes the cost of changing ties (docs/results.md)."""
HELPS = (
    "",
    " --env.reward delta_log_ppl",
    " --env.features moved+similarity+gradient+agreement+taylor",
    SOFT,
    f" --pretrain-runs {PRETRAIN_RUNS}",
)
HELPED = tuple(f"maskable_ppo{''.join(HELPS[: n + 1])}" for n in range(len(HELPS)))
"""One agent, with one help more in each: credit for each decision alone, first-order costs of
ties, ties that cost nothing to change, and runs to learn from."""
IN_THEIR_FAVOUR = (
    "qlearning --epsilon-decay 0.75",
    "qlearning --epsilon-decay 0.75 --env.initial-ties independent",
    "maskable_ppo --env.initial-ties independent",
    "maskable_ppo --env.initial-ties independent --env.reward delta_ppl_params"
    f" --env.param-cost 0.1 --pretrain-runs {PRETRAIN_RUNS}",
    "random --env.initial-ties independent",
)
"""Agents that begin with all layers, one of which pays for them what they are worth, or whose
exploration ends within the run; and what chance does from that beginning."""
BESIDE_OWNER = (
    *("tied", "cycle:2", "sequence:2", "cycle:3", "sequence:3", "sandwich", "middle-cycle:2"),
    *NULLS,
)
"""What the paper's agent is compared with under its own gradients."""
AGENTS = ("qlearning", "maskable_ppo")
"""The paper's, and a well-known one: both know which actions differ, so that `random` is the null
model of both."""
OF_MANY_LAYERS = (
    *("independent", "tied", "cycle-rev:2", "sandwich", "middle-cycle:2"),
    *("shallow:2", "shallow:3", "shallow:4", "random-fixed", *AHEAD),
)
"""What was chosen beforehand, and of two to four layers the pattern that was best of six, and an
untied transformer."""
OF_MODELS = (
    *("independent", "tied", "sequence:2", "cycle:2", "sequence:3", "cycle:3"),
    *("shallow:1", "shallow:2", "shallow:3", "random", "random-fixed"),
    *AGENTS,
)
"""Policies of the studies of other architectures, in which these agents and random tying end at one
to three layers."""
RATES = (5e-3, 1e-2, 2e-2)
"""Learning rates that each policy is tried with."""
ITERATIONS = {6: 2000, 12: 4000, 24: 4000}
"""By number of layers: after 2,000, twelve layers of width 32 are no better than six."""
WIKITEXT = "wikitext-2"
"""The corpus of studies that need the folder of this text."""
TEXTS = {"stdlib": "stdlib", "wikitext": WIKITEXT}


@dataclass(frozen=True)
class Study:
    """One comparison, and where it stands on the page."""

    name: str
    base: TieConfig
    changes: Mapping[str, Any]
    """What its environment has in place of the base's values."""
    policies: tuple[str, ...]
    group: str = ""
    """Of studies that can be asked for together: depth, main, transfer or models."""
    seeds: int = 10
    """Runs of each policy: seeds 0, 1, ..."""
    rates: tuple[float, ...] = ()
    """Learning rates to choose from, for each policy by itself, on seeds that the table doesn't
    use; none leave the setting's."""
    rates_of: str | None = None
    """Study whose choice of rates this one takes over, policy by policy."""
    retrained: str | None = None
    """Policy whose final ties are trained from scratch, each seed's with the seed before."""
    transferred: str | None = None
    """Study whose pretrained pairwise agents decide here without learning, each seed's with the
    same seed."""

    @property
    def env(self) -> TieConfig:
        """Its environment; raises as `TieConfig`."""
        return dataclasses.replace(self.base, **self.changes)

    @property
    def model(self) -> str:
        """As in `TieConfig`; without the library that it may need."""
        model: str = self.changes.get("model", self.base.model)
        return model

    @property
    def corpus(self) -> str:
        """As in `TieConfig`."""
        corpus: str = self.changes.get("corpus", self.base.corpus)
        return corpus

    @property
    def setting(self) -> str:
        """Where its runs go: studies of the same setting share them."""
        model = "" if self.model == "gpt" else f"{self.model}-"
        sizes = (str(self.changes.get(k, getattr(self.base, k))) for k in ("n_layer", "max_iters"))
        return f"{model}{self.corpus}-{'-'.join(sizes)}".replace(":", "-")


def shallower(n_layer: int) -> tuple[str, ...]:
    """Untied transformers of fewer layers, which a user would take for as many parameters."""
    return tuple(f"shallow:{m}" for m in sorted({1, 2, 3, 4, n_layer // 2}) if m < n_layer)


def studies() -> list[Study]:
    """All of them, in the order in which they are run."""
    return [*_depth(), *_main(), *_further(), *_of_models()]


def _of(text: str, n_layer: int) -> dict[str, Any]:
    """A text, and so many layers, for as long as it takes that half of them are not as good."""
    return {"corpus": TEXTS[text], "n_layer": n_layer, "max_iters": ITERATIONS[n_layer]}


def _depth() -> Iterator[Study]:
    """What depth is worth, before any policy is judged."""
    for n_layer in (6, 12):
        for text in TEXTS:
            cells = ("independent", "tied", *shallower(n_layer))
            name = f"depth-{text}-{n_layer}"
            yield Study(name, MAIN, _of(text, n_layer), cells, "depth", rates=RATES)
    cells = ("independent", "tied", "sequence:2", "cycle:2", "shallow:1", "shallow:2")
    yield Study(
        "depth-nested", DEEP, {}, cells, "depth"
    )  # runs that the study of related methods has, too


def _main() -> Iterator[Study]:
    """6 and 12 layers of both texts; what stands at 12 was chosen by the tables of 6."""
    for n_layer in (6, 12):
        for text in TEXTS:
            first = (text, n_layer) == ("stdlib", 6)
            policies = (
                *(*PATTERNS[n_layer], *shallower(n_layer)),
                *(
                    (*SURROGATES, *DRAWN, *NULLS, *IN_STUDIES, *SCHEDULES)
                    if n_layer == 6
                    else (*AHEAD, "random", "random-fixed", *AGENTS)
                ),
                *(PRETRAINED if first else ()),
            )
            yield Study(
                f"{text}-{n_layer}",
                MAIN,
                _of(text, n_layer),
                policies,
                "main",
                rates=RATES,
                retrained="qlearning" if first else None,
            )


def _further() -> Iterator[Study]:
    """What helps an agent, the paper's gradients, more layers, and transfer."""
    setting = _of("wikitext", 6)
    soft = (f"{policy}{SOFT}" for policy in (*PATTERNS[6], "random", "random-fixed"))
    helps = (*HELPED, *IN_THEIR_FAVOUR, *soft, *PATTERNS[6], *NULLS, *shallower(6))
    yield Study("helps", MAIN, setting, helps, rates=RATES)
    owner = (f"{policy} --env.tie-grad owner" for policy in ("qlearning", *BESIDE_OWNER))
    yield Study("owner", MAIN, setting, ("independent", *owner, *shallower(6)), rates=RATES)
    yield Study("stdlib-24", MAIN, _of("stdlib", 24), OF_MANY_LAYERS, rates_of="stdlib-12")
    beside = ("independent", "tied", "cycle-rev:2", "sequence:3", "sandwich", "middle-cycle:2")
    for text, n_layer in (("wikitext", 6), ("wikitext", 12)):
        cells = (*beside, "random", "random-fixed", *shallower(n_layer))
        where, name = _of(text, n_layer), f"transfer-{text}-{n_layer}"
        yield Study(name, MAIN, where, cells, "transfer", rates=RATES, transferred="stdlib-6")
    for model in ("llama", "bert"):
        changes = {"model": model, **MODELS[model]}
        name, policies = f"transfer-{model}", (*OF_MODELS, *SURROGATES, *DRAWN)
        yield Study(name, SMALL, changes, policies, "transfer", seeds=5, transferred="stdlib-6")


def _of_models() -> Iterator[Study]:
    """Policies of other architectures, each in its own setting."""
    for model, changes in MODELS.items():
        where = {"model": model, **changes}
        yield Study(f"models-{model}", SMALL, where, OF_MODELS, "models", seeds=5)
