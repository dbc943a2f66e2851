"""The studies that compare policies: what each of them holds, in which setting.

How they are run and put on the page is in `baselines.results`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from baselines.settings import MODELS

IN_STUDIES = ("qlearning", "dqn", "ppo", "maskable_ppo", "recurrent_ppo", "pairwise")
"""The agents that learn in the run as well as beforehand."""
LEARNING = (*IN_STUDIES, "decision_s4")
"""All agents that learn, on tables too."""
FIXED = (
    *("independent", "tied", "cycle:2", "cycle:3", "sequence:2", "sequence:3"),
    *("cycle-rev:2", "sandwich", "middle-cycle:2"),
)
"""The patterns of the literature, of 1 to 4 independent layers and of all."""
NULLS = ("random", "random-fixed", "random-raw")
"""Random tying, a random vector that is kept, and uniform draws over the raw actions."""
SCHEDULES = tuple(
    f"schedules --schedule {name}" for name in ("share-then-unshare", "progressive-split")
)
OF_MODELS = (
    *("independent", "tied", "sequence:2", "cycle:2", "sequence:3", "cycle:3"),
    *("shallow:1", "shallow:2", "shallow:3", "random", "random-fixed"),
    *("qlearning", "maskable_ppo"),
)
"""Policies of the studies of other architectures: both agents know which actions differ, so that
`random` is the null model of both, and they and random tying end at one to three layers."""
MORE_RUNS = "--pretrain-runs 48 --envs 16 --n-steps 10 --n-epochs 10"
"""Twelve times the decisions of 4 runs, on 16 transformers at a time, in 30 rollouts of 160."""


@dataclass(frozen=True)
class Study:
    """One comparison, and where it stands on the page."""

    name: str
    corpus: str
    n_layer: int
    policies: tuple[str, ...]
    retrained: str | None = None
    """Policy whose final ties are trained from scratch, each seed's with the same seed."""
    transferred: str | None = None
    """Study whose pretrained pairwise agents decide here without learning, each seed's with the
    same seed."""
    model: str = "gpt"
    """As in `TieConfig`."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `TieConfig`, in place of those of the options."""

    @property
    def setting(self) -> str:
        """Studies of the same setting share their runs."""
        model = "" if self.model == "gpt" else f"{self.model}-"
        return f"{model}{self.corpus}-{self.n_layer}".replace(":", "-")


def yardsticks(n_layer: int, options: str = "") -> tuple[str, ...]:
    """What every study has besides the policies that it is about, as many layers as it has.

    The three null models; a pattern of each size, since an agent may end at any, and is compared
    with the best one of its own; and untied transformers with fewer layers, which a user would
    take for the same number of parameters.

    Args:
        n_layer: Layers L.
        options: Of all of them but the untied ones, such as " --env.tie-grad sum".
    """
    sizes = (*FIXED, *(f"cycle:{m}" for m in range(4, n_layer)))
    shallow = (f"shallow:{m}" for m in range(1, 2 * n_layer // 3 + 1))
    return (*(f"{policy}{options}" for policy in (*NULLS, *sizes)), *shallow)


def studies(pretrain_runs: int) -> list[Study]:
    """All of them, in the order in which they are run."""
    few = f"--pretrain-runs {pretrain_runs}"
    pretrained = tuple(f"{agent} {few}" for agent in IN_STUDIES)
    rewards = ("neg_log_ppl", "neg_ppl", "delta_log_ppl", "ppl_params --env.param-cost 0.2")
    clip = "qlearning --env.reward neg_ppl --reward-clip 10"
    searches = ("lookahead", "evolution --evaluations 12")
    main_policies = (*IN_STUDIES, *pretrained, *searches, *SCHEDULES, *yardsticks(6))
    six, twelve = ((*IN_STUDIES, *SCHEDULES, *yardsticks(n)) for n in (6, 12))
    of_rewards = tuple(f"{a} --env.reward {r}" for a in ("qlearning", "dqn") for r in rewards)
    of_clips = ("qlearning --env.reward neg_ppl", clip, f"{clip} --bootstrap same-layer")
    more = (f"{a} {runs}" for a in ("ppo", "maskable_ppo") for runs in (few, MORE_RUNS))
    gradients = dict.fromkeys(
        policy
        for gradient in ("", " --env.tie-grad sum")
        for policy in (f"qlearning{gradient}", *yardsticks(6, gradient))
    )
    return [
        Study("main", "stdlib", 6, main_policies, retrained="qlearning"),
        Study("wikitext-6", "wikitext", 6, six),
        Study("rewards", "stdlib", 6, (*of_rewards, *yardsticks(6))),
        Study("clip", "stdlib", 6, (*of_clips, *yardsticks(6))),
        Study("tie-grad", "stdlib", 6, tuple(gradients)),
        Study("pretraining", "stdlib", 6, (*more, *yardsticks(6))),
        Study("stdlib-12", "stdlib", 12, twelve, transferred="main"),
        Study("wikitext-12", "wikitext", 12, twelve),
        *_of_models(),
    ]


def _of_models() -> Iterator[Study]:
    """The study `main` again with other architectures, each in its own setting."""
    for model, env in MODELS.items():
        corpus = env["corpus"]
        yield Study(f"models-{model}", corpus, 6, OF_MODELS, model=model, env=env)
