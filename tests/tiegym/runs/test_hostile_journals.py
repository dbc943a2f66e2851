"""Runs to resume that somebody else made: what no run can have recorded is said, and names a file.

What a folder holds besides its journal is in `test_hostile_folders`.
"""

import dataclasses
import json

import pytest

from agents import evolution, lookahead
from baselines import progressive_freeze, random_tying
from tests.tiegym.runs.test_hostile_folders import ENV, cut_off
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import CALLS, VALUE, Journal, recorded_steps
from tiegym.runs.json_files import whole_lines, write_json
from tiegym.runs.options import parse_options
from tiegym.runs.program import open_run


def change(path, number, edit):
    """Lets a function change the value of a line; what it returns takes its place."""
    lines = whole_lines(path)
    lines[number] = json.dumps(edit(json.loads(lines[number]))).encode()
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def go_on(options):
    """Resumes what `cut_off` left."""
    with open_run(options, "random_tying") as env:
        env.reset(seed=0)
        for _ in range(3):
            env.step(1)


def info_of(answer):
    return answer[-1]["dict"]


WRONG = {
    "a number": lambda answer: 1,
    "nothing": lambda answer: [],
    "text": lambda answer: "xxxxx",
    "one entry more": lambda answer: [*answer, 1],
    "no iteration": lambda answer: info_of(answer).pop("iteration"),
    "an iteration that is none": lambda answer: info_of(answer).update(iteration="1"),
    "a mask that is none": lambda answer: info_of(answer).update(
        action_mask={"array": [["x"]], "dtype": "int64"}
    ),
    "no observation": lambda answer: answer.__setitem__(0, None),
    "an observation without ties": lambda answer: answer[0]["dict"].pop("ties"),
    "ties of fewer layers": lambda answer: answer[0]["dict"]["ties"]["array"].pop(),
    "ties of text": lambda answer: answer[0]["dict"].update(ties=["a"] * ENV.n_layer),
}
OF_A_STEP = {
    "a reward of text": lambda answer: answer.__setitem__(1, "x"),
    "an end of text": lambda answer: answer.__setitem__(2, "no"),
}


@pytest.mark.parametrize(
    ("line", "wrong"), [(0, k) for k in WRONG] + [(2, k) for k in (WRONG | OF_A_STEP)]
)
def test_what_is_no_answer_of_an_environment_is_damaged(tmp_path, line, wrong):
    options = cut_off(tmp_path)

    def edit(entry):
        other = (WRONG | OF_A_STEP)[wrong](entry["answer"])
        if wrong in tuple(WRONG)[:4]:
            entry["answer"] = other
        return entry

    change(options.resume / CALLS, line, edit)
    with pytest.raises(InputError, match=rf"calls\.jsonl, line {line + 1}, is damaged"):
        go_on(options)


@pytest.mark.parametrize(
    ("name", "value"), [("terminated", None), ("ties", [0]), ("iteration", 999), ("action", 0)]
)
def test_a_row_that_is_not_of_the_step_that_was_answered_is_damaged(tmp_path, name, value):
    options = cut_off(tmp_path)

    def edit(row):
        if value is None:
            del row[name]
        else:
            row[name] = value
        return row

    change(options.resume / "steps.jsonl", 1, edit)
    with pytest.raises(InputError, match=rf"steps\.jsonl, line 2, is damaged: .* another {name}"):
        go_on(options)


class Killed(BaseException):
    """As abrupt as KeyboardInterrupt."""


VALUES = {
    "lookahead": (lookahead, {}),
    "evolution": (evolution, {"population": 2, "sample": 1, "evaluations": 6, "budget": 2}),
    "progressive_freeze": (progressive_freeze, {"rule": "autofreeze"}),
}


@pytest.mark.parametrize("program", VALUES)
@pytest.mark.parametrize("value", [1, [], ["x", 2], [[0.5], 1], None, {"a": 1}])
def test_what_a_program_found_out_by_itself_has_its_form(tmp_path, monkeypatch, program, value):
    module, own = VALUES[program]
    own = {"quiet": True, "env": ENV, "checkpoint_every_steps": 1, **own}
    options = module.Options(runs_dir=tmp_path, name="run", **own)
    whole = Journal.append

    def dies(self, call, asked, answer):
        whole(self, call, asked, answer)
        if call == VALUE and self.count > 3:  # with a checkpoint before it
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", dies)
        with pytest.raises(Killed):
            module.train(options)
    path = tmp_path / "run" / CALLS
    number = len(whole_lines(path)) - 1
    change(path, number, lambda entry: entry | {"answer": value})
    with pytest.raises(InputError, match=rf"calls\.jsonl, line {number + 1}, is damaged"):
        module.train(dataclasses.replace(options, resume=tmp_path / "run"))


@pytest.mark.parametrize(
    "wrong",
    [{"total_steps": 2.5}, {"sample_tokens": 1.5}, {"quiet": "x"}, {"export": "yes"}, {"name": 3}],
)
def test_recorded_options_have_the_types_of_options(tmp_path, wrong):
    options = cut_off(tmp_path)
    path = options.resume / "config.json"
    config = json.loads(path.read_text())
    write_json(path, config | {"options": config["options"] | wrong})
    (name,) = wrong
    with pytest.raises(InputError, match=f"no options that this version .*: {name}="):
        parse_options(random_tying.Options, ["--resume", str(options.resume)])


def test_steps_are_counted_in_pieces_of_lines(tmp_path):
    step, piece = b'{"call": "step"', b"x" * 2**16
    lines = [step, b'{"call": "reset"', step + 3 * piece, piece[:-1] + step, step]
    (tmp_path / CALLS).write_bytes(b"\n".join(lines))
    assert recorded_steps(tmp_path) == 3
