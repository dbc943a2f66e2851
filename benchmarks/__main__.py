"""All benchmarks, one after the other, as Markdown: `make bench`.

Without a GPU the one at paper scale is left out, and its calculation is printed alone.

python -m benchmarks --corpus PATH_OF_WIKITEXT_2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks import (
    breakdown,
    compressed_cost,
    core,
    features,
    library_models,
    paper_memory,
    paper_scale,
    private_cost,
    scaling,
    throughput,
)
from benchmarks.program import run_benchmark


@dataclass(frozen=True)
class Options:
    """Measure everything."""

    corpus: str = "stdlib"
    """What throughput is measured on; the path of any text file or folder."""
    device: str = "auto"
    """auto, cpu or cuda."""


def run(options: Options) -> None:
    """Runs every benchmark with its defaults."""
    device = options.device
    core.run(core.Options(device=device))
    throughput.run(throughput.Options(corpus=options.corpus, device=device))
    scaling.run(scaling.Options(device=device))
    private_cost.run(private_cost.Options(device=device))
    compressed_cost.run(compressed_cost.Options(device=device))
    features.run(features.Options(corpus=options.corpus, device=device))
    library_models.run(library_models.Options(device=device))
    breakdown.run(breakdown.Options(device=device))
    paper_memory.run(paper_memory.Options())
    if device != "cpu" and torch.cuda.is_available():
        paper_scale.run(paper_scale.Options(device=device))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks", __doc__, run, args)


if __name__ == "__main__":
    main()
