"""Run folders that somebody else made: nothing is written through links, nothing waits or runs."""

import contextlib
import dataclasses
import json
import os
import shutil

import pytest

from baselines import random_tying
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.folder import is_finished, read_run
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import loads, read_json, whole_lines, write_json
from tiegym.runs.messages import say
from tiegym.runs.options import parse_options
from tiegym.runs.program import open_run

ENV = TieConfig(**SMALL)


def cut_off(tmp_path):
    """The options that resume a run that was cut off after some steps."""
    options = random_tying.Options(
        runs_dir=tmp_path, name="run", quiet=True, env=ENV, checkpoint_every_steps=1
    )
    with contextlib.suppress(ZeroDivisionError), open_run(options, "random_tying") as env:
        env.reset(seed=0)
        for _ in range(3):
            env.step(1)
        raise ZeroDivisionError
    return dataclasses.replace(options, resume=tmp_path / "run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    options = random_tying.Options(runs_dir=folder, name="run", quiet=True, env=ENV)
    return random_tying.train(options)


FILES = (
    *("steps.jsonl", "calls.jsonl", "config.json", "summary.json", "agent.zip", "search.jsonl"),
    *("checkpoint-3.safetensors", "events.out.tfevents.1", ".x.tmp", "agent"),
)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_a_folder_is_refused_and_what_it_points_at_stays(tmp_path, name):
    options = cut_off(tmp_path)
    path, precious = options.resume / name, tmp_path / "precious"
    if path.exists():
        shutil.copy(path, precious)  # so that it is as it should be, but for being a link
        path.unlink()
    else:
        precious.write_text("mine")
    before = precious.read_bytes()
    path.symlink_to(precious)
    with pytest.raises(InputError, match=f"{name} is a symbolic link"):
        random_tying.train(options)
    assert precious.read_bytes() == before


@pytest.mark.parametrize("name", ["steps.jsonl", "calls.jsonl", "config.json", "summary.json"])
def test_a_pipe_in_a_folder_keeps_nobody_waiting(tmp_path, finished, name):
    options = cut_off(tmp_path)
    (options.resume / name).unlink(missing_ok=True)
    os.mkfifo(options.resume / name)
    with pytest.raises(InputError, match=f"{name} is no ordinary file"):
        random_tying.train(options)
    whole = shutil.copytree(finished, tmp_path / "whole")
    if name == "calls.jsonl":
        return  # a finished run has none, and its readers look for none
    (whole / name).unlink()
    os.mkfifo(whole / name)
    with pytest.raises(InputError, match=f"{name} is no ordinary file"):
        read_run(whole)


def test_a_device_is_not_read_for_ever(tmp_path, finished):
    whole = shutil.copytree(finished, tmp_path / "whole")
    (whole / "steps.jsonl").unlink()
    (whole / "steps.jsonl").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"no ordinary file|symbolic link"):
        read_run(whole)


def test_a_file_of_terabytes_takes_no_memory(tmp_path):
    for read, name in ((read_json, "a.json"), (whole_lines, "a.jsonl")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # all zeros, without a line end
        with pytest.raises(InputError, match=f"{name}.* is damaged: it is l"):
            read(tmp_path / name)


@pytest.mark.parametrize("depth", [65, 900, 100_000])
@pytest.mark.parametrize("begin", ["[", '{"a":'])
def test_deep_json_is_an_error_that_names_the_file(tmp_path, depth, begin):
    end = "]" if begin == "[" else "}"
    text = begin * depth + "1" + end * depth
    (tmp_path / "config.json").write_text(f'{{"format": 1, "x": {text}}}')
    with pytest.raises(InputError, match=r"config\.json is damaged: .* nested deeper than 64"):
        read_run(tmp_path)
    (tmp_path / "steps.jsonl").write_text(text + "\n")
    write_json(tmp_path / "config.json", {"format": 1})
    with pytest.raises(InputError, match=r"steps\.jsonl, line 1, is damaged: .* deeper than 64"):
        read_run(tmp_path)


def test_what_is_not_deep_may_be_long():
    assert loads(json.dumps([[[1]]] * 1000).encode()) == [[[1]]] * 1000
    assert loads(b"[NaN, -Infinity]") == [None, None]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iteration", '<b onclick="x">'),
        ("iteration", -1),
        ("iteration", True),
        ("iteration", 1.5),
        ("episode", {"r": 1}),
        ("perplexity", "9.1"),
        ("perplexity", [1]),
        ("perplexity", 10**400),
        ("perplexity", 0),
        ("perplexity", -3.5),
        ("perplexity", 1.79e308),
        ("seed", "x"),
        ("seed", -1),
        ("seed", 0.5),
        ("test_perplexity", 0.0),
        ("iteration", 10**400),
        ("terminated", 1),
        ("diverged", "no"),
        ("ties", [0, 2, 1]),  # a cycle
        ("ties", [0, 1, 3]),
        ("ties", [1, 0, 0]),
        ("ties", "000"),
        ("ties", [0, 0.0]),
        ("ties", [0, -1]),
        ("n_independent", None),
    ],
)
def test_values_of_the_wrong_type_or_range_are_named(tmp_path, finished, name, value):
    whole = shutil.copytree(finished, tmp_path / "whole")
    rows = [json.loads(line) for line in whole_lines(whole / "steps.jsonl")]
    (whole / "summary.json").unlink()
    rows[1][name] = value
    (whole / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=rf"steps\.jsonl, line 2, is damaged: {name} is"):
        read_run(whole)
    summary = json.loads((finished / "summary.json").read_text())
    del summary["sha256"]
    summary["final"][name] = value
    write_json(whole / "summary.json", summary)
    with pytest.raises(InputError, match=rf"summary\.json is damaged: {name} is"):
        is_finished(whole)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("program", 1),
        ("module", ["os"]),
        ("options", "seed"),
        ("options", {"seed": "0"}),
        ("env", []),
        ("threads", "all"),
        ("threads", 0),
        ("threads", 10**9),
        ("versions", None),
        ("env", {"n_layer": 10**400}),
        ("env", {"n_layer": 3.5}),
        ("env", {"n_layer": None}),
        ("env", {"max_iters": 0}),
        ("env", {"max_iters": True}),
        ("env", {"dropout": [0.1]}),
        ("env", {"learning_rate": {"a": 1}}),
        ("env", {"weight_decay": 10**400}),
        ("env", {"corpus": ["a", "b"]}),
        ("env", {"initial_ties": [[0], 1]}),
    ],
)
def test_a_config_of_the_wrong_types_is_named(tmp_path, finished, name, value):
    whole = shutil.copytree(finished, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    write_json(whole / "config.json", {**config, name: value})
    with pytest.raises(InputError, match=rf"config\.json is damaged: .*{name}"):
        read_run(whole)


def test_an_environment_of_another_version_may_know_fewer_and_other_arguments(tmp_path, finished):
    whole = shutil.copytree(finished, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    env = {"n_layer": 4, "max_iters": 6, "initial_ties": [0, 0, 2, 2], "later": {"a": [1]}}
    write_json(whole / "config.json", {**config, "env": env})
    assert read_run(whole).config["env"] == env


def test_a_summary_of_an_episode_that_has_no_row_is_damaged(tmp_path, finished):
    whole = shutil.copytree(finished, tmp_path / "whole")
    summary = json.loads((whole / "summary.json").read_text())
    del summary["sha256"]
    summary["final"]["episode"] = 9
    write_json(whole / "summary.json", summary)
    config = json.loads((whole / "config.json").read_text())
    write_json(whole / "config.json", config | {"checksums": False})
    with pytest.raises(InputError, match=r"ends with episode 9, but steps\.jsonl has no row"):
        read_run(whole)


def test_the_module_that_a_folder_names_is_neither_run_nor_printed_as_a_command(tmp_path, capsys):
    options = cut_off(tmp_path)
    path = options.resume / "config.json"
    config = json.loads(path.read_text())
    write_json(path, config | {"module": "x; touch pwned\x1b[2J"})
    with pytest.raises(SystemExit, match="2"):
        random_tying.main(["--resume", str(options.resume)])
    err = capsys.readouterr().err
    assert "resume it with its own" in err
    assert "\x1b" not in err
    with pytest.raises(InputError, match="different are module"):
        random_tying.train(options)


def test_recorded_options_of_the_wrong_type_are_refused(tmp_path):
    options = cut_off(tmp_path)
    path = options.resume / "config.json"
    config = json.loads(path.read_text())
    for wrong in ({"env": 3}, {"nonsense": 1}, {"total_steps": "all"}):
        write_json(path, config | {"options": config["options"] | wrong})
        with pytest.raises(InputError, match="no options that this version"):
            parse_options(random_tying.Options, ["--resume", str(options.resume)])


@pytest.mark.parametrize(
    "line",
    [
        b'{"call": "reset", "asked": {"seed": 0, "options": null}, "answer": {"dtype": "O"}}',
        b'{"call": "reset", "asked": {"seed": 0, "options": null}, "answer": '
        b'{"array": ["a"], "dtype": "U999999999"}}',
        b'{"call": "reset", "asked": {"seed": 0, "options": null}, "answer": {"x": 1}}',
    ],
)
def test_answers_that_no_environment_gives_are_refused(tmp_path, line):
    options = cut_off(tmp_path)
    path = options.resume / "calls.jsonl"
    _, *rest = whole_lines(path)
    path.write_bytes(b"\n".join([line, *rest, b""]))
    with pytest.raises(InputError, match=r"calls\.jsonl, line 1, is damaged"):
        random_tying.train(options)


def test_messages_move_no_cursor(capsys):
    import sys

    say("runs/\x1b]0;title\x07\ra\nb", sys.stdout)
    assert capsys.readouterr().out == "runs/\\x1b]0;title\\x07 a\nb\n"
