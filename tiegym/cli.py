"""The command `tiegym`: what is done with runs that are there.

A subcommand is a function: its arguments are the command line, its docstring the help. Programs
that make runs are in agents/ and baselines/ of the checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tiegym import __version__
from tiegym.runs.input_errors import InputError, input_errors
from tiegym.runs.messages import complain, reader_may_leave, say

Behaviour = Literal["random", "random-fixed"]


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("report.html"),
) -> None:
    """Write one self-contained HTML page that compares runs.

    Args:
        runs: Run folders, or folders that hold run folders.
        out: The page; an older one is replaced.
    """
    from tiegym.analysis.groups import find_runs, without_tuning
    from tiegym.report.page import write_report

    skipped: list[str] = []

    def skip(sentence: str) -> None:
        complain(sentence)
        skipped.append(sentence)

    with input_errors():
        found = without_tuning(find_runs(runs, skip), runs, skip)
        if not out.parent.is_dir():
            raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")
    with _writing(out):
        write_report(found, out, skipped)
    say(f"report: {out}", sys.stdout)


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("comparison"),
) -> None:
    """Say which policies are better than others: a table with verdicts, and pictures.

    Args:
        runs: Folders of finished runs, or folders that hold run folders. Runs that differ in
            nothing but the seed are one policy.
        out: Folder of the table and the pictures; older ones in it are replaced.
    """
    from tiegym.analysis.comparison import given_rows, judge, show, write

    with input_errors(InputError):
        if not runs:
            raise InputError("no run given: name at least one run folder, such as runs/ppo-seed0")
        judged = judge(given_rows(runs, complain))
        write(judged, out)
    show(judged, out)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Says in one line that a result can't be written; a full disk is no mistake of ours."""
    with input_errors(InputError):
        try:
            yield
        except OSError as error:
            raise InputError(f"--out {out} can't be written: {error.strerror or error}") from error


def film(
    run: tyro.conf.Positional[Path],
    out: Path = Path("film.gif"),
    theme: Literal["light", "dark"] = "light",
) -> None:
    """Write a short film of a run: whose weights each layer uses, beside the perplexity.

    Args:
        run: A run folder; its last episode is shown.
        out: The film, a GIF; an older one is replaced.
        theme: For a page with a light or a dark ground.
    """
    from tiegym.analysis.groups import final, last_episode, policy_name
    from tiegym.pictures.run_film import write_film
    from tiegym.runs.folder import read_run

    with input_errors():
        read = read_run(run)
        steps = [s for s in last_episode(read) if s.get("ties") and s.get("perplexity") is not None]
        if not steps:
            raise ValueError(
                f"{run} has no step with ties and a perplexity: there is no film of it"
            )
        if out.suffix != ".gif" or not out.parent.is_dir():
            raise ValueError(
                f"--out {out} must be a name that ends in .gif, in a folder that exists"
            )
    test = final(read).get("test_perplexity")
    title, n_layer = policy_name(read), read.config.get("env", {}).get("n_layer")
    with _writing(out):
        write_film(steps, out, title=title, test_perplexity=test, n_layer=n_layer, theme=theme)
    say(f"film: {out}", sys.stdout)


def export(
    run: tyro.conf.Positional[Path], to: Literal["hf"] = "hf", out: Path | None = None
) -> None:
    """Write the trained transformer of a run in the form of another library.

    Args:
        run: A run folder that was made with --export, or a file that TieEnv.export wrote.
        to: hf is a folder that the library transformers loads: of our own model that of a GPT-2.
        out: The new folder; None is model-hf beside the model, or whatever the model's name is.
    """
    from tiegym.transformer.library_folder import export_folder
    from tiegym.transformer.model_file import (
        find_model,
        load_model,
        read_standardisation,
        read_tokenizer,
    )

    with input_errors():
        path = find_model(run)
        out = out or path.with_name(f"{path.stem}-{to}")
        export_folder(load_model(path), read_tokenizer(path), out, read_standardisation(path))
    say(f"exported: {out}", sys.stdout)


def minari(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    table: str | None = None,
    episodes: int | None = None,
    behaviour: Behaviour | None = None,
    seed: int | None = None,
    corpus: str | None = None,
    out: Path = Path("runs-v0"),
) -> None:
    """Convert runs to a Minari data set and back, or make one of a TieBench table.

    Args:
        runs: Run folders, or folders that hold some: their whole episodes become a data set.
        from_: A data set that this command made: it becomes a run folder of rows.
        table: A TieBench tree by name or path: recorded runs of its train seeds become a data set.
        episodes: Of a table; None is 1000.
        behaviour: Who decides on a table: random (None, too) draws at each decision, random-fixed
            once an episode for each layer.
        seed: Of these draws; None is 0.
        corpus: The runs' text, if a record names it by a path and its tokenizer isn't bytes.
        out: The new folder. A data set's name ends in -vN.
    """
    from tiegym.offline import convert

    with input_errors():
        if (bool(runs), from_ is not None, table is not None).count(True) != 1:
            raise ValueError("give run folders, or --from DATASET, or --table NAME: one of these")
        of_tables = {"episodes": episodes, "behaviour": behaviour, "seed": seed}
        idle: dict[str, object] = {} if runs else {"corpus": corpus}
        idle |= of_tables if table is None else {}
        for name, value in idle.items():
            if value is not None:
                raise ValueError(
                    f"--{name} {value} has no effect here: it is of "
                    f"{'runs' if name == 'corpus' else '--table'}"
                )
    with _writing(out), input_errors(ValueError):
        if from_ is not None:
            said = convert.to_run(from_, out)
        elif table is not None:
            count = 1000 if episodes is None else episodes
            said = convert.from_table(table, count, behaviour or "random", seed or 0, out)
        else:
            said = convert.from_runs(runs, corpus, out, complain)
    say(said, sys.stdout)


COMMANDS: dict[str, Callable[..., Any]] = {
    "compare": compare,
    "report": report,
    "film": film,
    "export": export,
    "minari": minari,
}


def main(args: Sequence[str] | None = None) -> None:
    """Runs a subcommand, or says with --version which tiegym this is.

    Args:
        args: The command line; None takes the process's own.
    """
    args = sys.argv[1:] if args is None else list(args)
    if args == ["--version"]:
        print(f"tiegym {__version__}")
        return
    says = "What is done with runs that are there."
    with reader_may_leave():
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="tiegym", description=says, args=args)


if __name__ == "__main__":
    main()
