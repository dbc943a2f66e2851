"""The configuration of an environment: one frozen dataclass, validated at construction.

Every argument is a plain value, so that `env.spec.to_json()` and a command line both rebuild it.
What can only be known with a corpus or a device in hand is checked when the environment is built.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tiegym import compression as compressions
from tiegym import config_checks, parts
from tiegym import features as layer_features
from tiegym import private as private_parts
from tiegym.argument_types import check_types, make_plain
from tiegym.compression import Compression

Action = Literal["layerwise", "pair", "joint"]
Choices = Literal["tie", "tie+freeze"]
TieParts = Literal["block", "attention+mlp"]
TieGrad = Literal["owner", "sum"]
Reward = Literal["neg_log_ppl", "neg_ppl", "delta_log_ppl", "ppl_params", "delta_ppl_params"]
Decay = Literal["constant", "cosine", "linear"]
TieChange = Literal["hard", "soft"]
Init = Literal["gpt2", "admin"]
ResidualScale = Literal["depth", "group"]
Embeddings = Literal["trained", "frozen"]
Merge = Literal["first", "mean"]
Dtype = Literal["auto", "float32", "bfloat16-mixed", "bfloat16"]


@dataclass(frozen=True)
class TieConfig:
    """All arguments of ``gymnasium.make("TieEnv-v0", ...)``; units and meaning below each.

    Raises:
        ValueError: At construction, naming the argument, its value and what is allowed.
        FileNotFoundError: If `corpus`, `tokenizer` or `model` is a path that isn't there.
        ImportError: If the model is of `transformers`, which isn't installed.
    """

    model: str = "gpt"
    """gpt (ours, the fast one); a model type of the library transformers with fresh weights, such
    as llama, bert or vit; or hf:ID_OR_FOLDER, a pretrained model, whose n_layer, n_head, n_embd and
    tokenizer take the place of the defaults. Of an encoder with a decoder (T5, BART) the layers of
    the decoder are tied, and those of the encoder stay as they are."""
    model_config: str = "{}"
    """Further entries of the configuration of a model of transformers, a JSON object such as
    {"intermediate_size": 512}."""
    task: str = "auto"
    """language-modeling, masked-language-modeling, classification, question-answering or
    image-classification; auto takes what the model is made for."""
    n_layer: int = 6
    """Transformer blocks L; with one there is nothing to decide (for comparisons by depth)."""
    n_head: int = 4
    """Attention heads; n_embd must be a multiple."""
    n_embd: int = 128
    """Width C of the residual stream."""
    block_size: int = 128
    """Context length T in tokens."""
    dropout: float = 0.0
    """Dropout probability, in [0, 1)."""
    corpus: str = "stdlib"
    """stdlib, a named data set (wikitext-2, wikitext-103, lambada, lm1b, ptb, tiny-shakespeare),
    hf:ID[:CONFIG], the path of a file or folder, synthetic:N, or nested:N. Of other tasks than
    language modelling: stdlib, glue:NAME, squad, digits, cifar10, hf:ID[:CONFIG], or a path."""
    tokenizer: str = "bytes"
    """bytes, bpe-N, word[-N], gpt2, or the path of a tokenizer.json."""
    batch_size: int = 8
    """Sequences B in a batch."""
    learning_rate: float = 1e-3
    """AdamW's learning rate for the transformer: the largest of its schedule."""
    warmup_iters: int = 0
    """First iterations, over which the learning rate rises linearly to learning_rate."""
    lr_decay: Decay = "constant"
    """constant, or cosine or linear: how the learning rate falls after the warm-up, to 0 at
    max_iters."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, on all weights."""
    grad_clip: float = 1.0
    """Largest norm of the whole gradient; 0 turns clipping off."""
    grad_accum: int = 1
    """Micro-batches that a batch is split into, one after the other: less memory for the same
    gradient; batch_size must be a multiple."""
    private: str = "none"
    """What every layer keeps to itself whatever its ties: none, or norms, scales (a gain on each
    residual branch) and lora:R (a term of rank R beside each matrix), joined with +. Models of
    transformers know none and norms."""
    tie_change: TieChange = "hard"
    """hard: what a layer that gets tied had is lost; soft: what its term of rank R can hold of it
    is kept there, and goes back into its weights when it is untied; needs private=lora:R."""
    init: Init = "gpt2"
    """gpt2; or admin: on a first batch all residual branches are scaled to the embedding's
    variance; needs private=scales."""
    init_std: float = 0.02
    """Standard deviation of initial weights (residual projections have less, see residual_scale).
    GPT-2's was made for its width of 768; as large a share of 1 / sqrt(n_embd) is
    0.55 / sqrt(n_embd), 0.1 at a width of 32."""
    residual_scale: ResidualScale = "depth"
    """depth: initial residual projections are divided by sqrt(2 L); group: by sqrt(2 L n), where
    n layers use them at the start."""
    initial_weights: str | None = None
    """An exported model, or the folder of a run that has one, whose weights an episode begins with;
    None draws them. Of the same sizes and tokenizer; its ties may be others."""
    quantize: str | None = None
    """int8 or int4: the matrices that layers share are rounded to so many bits wherever they are
    used, with a learnt step each (quantisation-aware training); None leaves them as they are."""
    factorize: str | None = None
    """tt:R: the matrices that layers share are tensor trains of rank R; None leaves them whole."""
    embeddings: Embeddings = "trained"
    """trained; or frozen: both embeddings, and so the output head, keep their first values."""
    iters_per_step: int = 4
    """Training iterations K in one environment step."""
    max_iters: int = 400
    """Training iterations in an episode: the budget."""
    action: Action = "layerwise"
    """layerwise (one layer after the other), pair (the agent picks layer and target), or joint
    (all layers at once)."""
    choices: Choices = "tie"
    """tie, or tie+freeze: a layer may also keep weights of its own that train no more."""
    tie_parts: TieParts = "block"
    """block: layers share whole blocks; attention+mlp: their attention and their MLP apart, by a
    tie vector each."""
    initial_ties: str | tuple[int, ...] = "tied"
    """Tie vector at the start: a pattern such as cycle:2, or a vector such as 0,0,2,2; with
    tie_parts=attention+mlp a pattern for both, or both vectors one behind the other; saved: those
    with which a pretrained model was exported."""
    merge: Merge = "first"
    """Where layers of a pretrained model are tied at the start: first keeps the weights of the
    first of them, their root; mean takes the mean of all of them."""
    tie_grad: TieGrad = "owner"
    """owner: only a layer's own position gives its weights a gradient; sum: all positions that
    use them do."""
    features: str = "moved+similarity+gradient"
    """What observations say of each layer, joined with +: moved, similarity, gradient; agreement
    (of its gradient with those that its weights get elsewhere; needs tie_grad=sum) and taylor (how
    the loss would change, to first order, if the layer under the cursor were tied to it; needs
    action=layerwise)."""
    reward: Reward = "neg_log_ppl"
    """neg_log_ppl, neg_ppl (the paper's), delta_log_ppl (its fall since the last step), ppl_params
    (neg_log_ppl less param_cost times the independent share), or delta_ppl_params (delta_log_ppl
    less param_cost times the rise of that share)."""
    param_cost: float = 0.0
    """Price in nats of training all layers independently; for reward=ppl_params and
    delta_ppl_params only."""
    eval_batches: int = 2
    """Batches of the fixed validation set behind each reward."""
    test_tokens: int | None = 65_536
    """Tokens of the test split read at the end of an episode, in windows of block_size that are
    spread evenly over it; None reads it whole."""
    divergence_loss: float = 20.0
    """Loss in nats at which an episode counts as diverged; above ln(vocabulary size)."""
    device: str = "auto"
    """auto (a GPU if there is one: cuda, else mps), cpu, cuda, cuda:N or mps."""
    dtype: Dtype = "auto"
    """float32; bfloat16-mixed (float32 weights, bfloat16 computation); bfloat16 (weights too);
    auto is bfloat16-mixed on a GPU that has it and float32 elsewhere."""
    compile: bool = False
    """Compile the transformer's block once with torch.compile."""
    checkpoint_activations: bool = False
    """Keep only each block's input in training and compute the rest again: less memory, slower."""
    loss_chunk: int | None = None
    """Tokens whose logits exist at a time; 0 is all; None chooses by vocabulary and device."""

    def __post_init__(self) -> None:
        """Checks every argument; NumPy's scalars, paths and lists become plain values.

        Of a model of `transformers`, what is left to its configuration is filled in: its task,
        and of a pretrained one its sizes and its tokenizer.
        """
        make_plain(self)
        check_types(self, but="initial_ties")  # a pattern's name or any sequence of integers
        for name, value in config_checks.filled_in(self).items():
            object.__setattr__(self, name, value)
        config_checks.check(self)
        if not isinstance(self.initial_ties, str):
            vector = parts.validate(self.initial_ties, self.n_layer, self.n_parts)
            object.__setattr__(self, "initial_ties", tuple(vector.tolist()))
        object.__setattr__(self, "private", str(private_parts.parse(self.private)))
        object.__setattr__(self, "features", "+".join(self.feature_names))

    @property
    def n_parts(self) -> int:
        """Parts P of a layer that share weights apart: 1, or 2 with "attention+mlp"."""
        return len(parts.PARTS[self.tie_parts])

    @property
    def compression(self) -> Compression:
        """What `quantize` and `factorize` say."""
        return compressions.parse(self.quantize, self.factorize)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names that `features` joins, in the order in which `layer_stats` has them."""
        return layer_features.parse(self.features)

    @property
    def steps_per_episode(self) -> int:
        """Environment steps in an episode; the last has fewer iterations if K doesn't divide."""
        return math.ceil(self.max_iters / self.iters_per_step)

    def iterations(self, steps: int) -> int:
        """Training iterations in so many environment steps from the beginning of an episode."""
        episodes, rest = divmod(steps, self.steps_per_episode)
        return episodes * self.max_iters + rest * self.iters_per_step


PAPER: dict[str, Any] = {
    "n_layer": 48,
    "n_head": 16,
    "n_embd": 1600,
    "block_size": 256,
    "dropout": 0.2,
    "corpus": "wikitext-2",
    "tokenizer": "gpt2",
    "batch_size": 16,
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "grad_clip": 1.0,
    "iters_per_step": 4,
    "max_iters": 300 * 47 * 4,
    "action": "layerwise",
    "initial_ties": "tied",
    "tie_grad": "owner",
    "reward": "neg_ppl",
    "eval_batches": 1,
    "test_tokens": None,
    "dtype": "bfloat16",
}
"""What TieEnvPaper-v0 sets: the protocol of the paper's research code, 300 sweeps of 47 layers."""


def default_arguments() -> dict[str, Any]:
    """Every field of `TieConfig` with its default."""
    return {field.name: field.default for field in dataclasses.fields(TieConfig)}


def arguments_since_0_1() -> dict[str, Any]:
    """The defaults of the fields that 0.1 didn't have: what its records mean by not naming them."""
    later = {"warmup_iters", "lr_decay", "choices", "tie_parts"}
    later |= {"grad_accum", "private", "tie_change", "init", "init_std", "residual_scale"}
    later |= {"features"}
    later |= {"initial_weights", "embeddings", "model", "model_config", "task", "merge"}
    later |= {"quantize", "factorize"}
    return {name: value for name, value in default_arguments().items() if name in later}


def check_names(names: Iterable[str], of: str) -> None:
    """Checks that all names are fields of `TieConfig`.

    Args:
        names: Of keyword arguments.
        of: The function that got them, such as "TieEnv.__init__()".

    Raises:
        TypeError: In Python's own words, which other libraries look for.
    """
    known = [field.name for field in dataclasses.fields(TieConfig)]
    unknown = [name for name in names if name not in known]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), known, 1)
        more = f" (nor is any of {unknown[1:]} known)" if unknown[1:] else ""
        raise TypeError(
            f"{of} got an unexpected keyword argument '{unknown[0]}'{more}: "
            + (f"did you mean {close[0]}? " if close else "")
            + f"It takes {', '.join(known)}"
        )


def check_call(
    of: str, render_mode: Any, render_modes: Sequence[str], names: Iterable[str]
) -> None:
    """Checks how an environment is called, before its configuration is looked at.

    Args:
        of: The environment's class.
        render_mode: What it got.
        render_modes: What it takes besides None.
        names: Of its other arguments.

    Raises:
        TypeError: If it got a dictionary of arguments, or one that it doesn't have.
        ValueError: If the render mode is unknown.
    """
    if isinstance(render_mode, Mapping):
        raise TypeError(
            f"{of} takes its arguments by name, not in a dictionary: {of}(**config). RLlib hands "
            "its env_config over like this: register a creator, ray.tune.register_env('tie', "
            "lambda config: gymnasium.make('tiegym:TieEnv-v0', **config)), and give env='tie'"
        )
    check_names(names, f"{of}.__init__()")
    if render_mode not in (None, *render_modes):
        raise ValueError(
            f"render_mode={render_mode!r} is unknown: choose one of None, "
            + ", ".join(render_modes)
        )
