"""Comparisons on Ray: the same runs as processes make, whatever dies; and what can't be used.

A Ray is started once for most of them; each of its processes imports PyTorch.
"""

import dataclasses
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

import tiegym
from baselines import compare, fixed, ray_cluster, ray_workers
from baselines.ray_cluster import connect
from baselines.ray_nodes import Ticket, check_nodes, room_of
from baselines.ray_options import Resources, address_of
from baselines.ray_workers import RayTasks
from baselines.table_learning import learn_missing, parse_learner
from tests.baselines.tables import DECISIONS, made_table
from tests.runs import facts
from tests.tiegym.analysis.made_up import ENV
from tests.tiegym.small import SMALL
from tiegym.bench.recorded import real_config
from tiegym.runs.folder import read_run
from tiegym.runs.input_errors import InputError
from tiegym.runs.processes import RunsFailed

ARGUMENTS = [f"--env.{key.replace('_', '-')}={value}" for key, value in SMALL.items()]

OWN = """
import dataclasses, os, signal
from baselines import fixed
from tiegym.runs.program import open_run, run_policy

@dataclasses.dataclass(frozen=True)
class Options(fixed.Options):
    pattern: str = "tied"
    deaths: int = 0

class Dying:
    def __init__(self, env, options):
        self.env, self.options, self.calls = env, options, 0

    def predict(self, *args, **kwargs):
        self.calls += 1
        died = self.options.runs_dir / f"died-{self.options.deaths}"
        if self.calls == 4 and (died.stat().st_size if died.exists() else 0) < self.options.deaths:
            with died.open("a") as file:
                file.write("x")
            rows = (self.env.folder / "steps.jsonl").read_text()
            (self.options.runs_dir / f"rows-{self.options.deaths}").write_text(rows)
            os.kill(os.getpid(), signal.SIGKILL)
        return 0, None

def train(options):
    with open_run(options, "own") as env:
        run_policy(env, Dying(env, options), options.seed, options.steps)
    return env.folder
"""


def options(tmp_path, *policies, **values):
    return compare.Options(
        policies=policies, seeds=2, runs_dir=tmp_path, env=ENV, quiet=True, **values
    )


def table(folder):
    """What a comparison says but for the time that it took."""
    lines = [line.split(",") for line in (folder / "comparison.csv").read_text().splitlines()]
    measured = [n for n, name in enumerate(lines[0]) if "seconds" in name or "peak" in name]
    assert measured
    return [[cell for n, cell in enumerate(line) if n not in measured] for line in lines]


@pytest.mark.slow
def test_a_comparison_on_ray_gives_the_table_of_processes_bit_for_bit(
    ray, tmp_path, in_process, capsys
):
    made = {}
    for engine in ("processes", "ray"):
        folder = tmp_path / engine
        given = options(folder, "random", engine=engine, lr_grid=(1e-3, 1e-2))
        compare.compare(dataclasses.replace(given, quiet=engine == "processes"))
        made[engine] = {
            path.relative_to(folder): facts(path)
            for path in folder.glob("**/*-seed*")
            if path.is_dir()
        }
        assert not list(folder.glob("**/.ray-*"))
    assert in_process.started == 2  # for tuning and the table of one of the two
    assert len(made["ray"]) == 6
    assert made["ray"] == made["processes"]
    assert table(tmp_path / "ray") == table(tmp_path / "processes")
    said = capsys.readouterr().err.splitlines()
    assert all("runs, 2 at a time: " in line and "iterations" in line for line in said)
    assert {line.partition(",")[0] for line in said} == {"4 runs", "2 runs"}


@pytest.mark.slow
def test_a_run_whose_process_is_killed_goes_on_and_one_that_fails_by_itself_is_not_run_again(
    ray, tmp_path, in_process, monkeypatch, capsys
):
    monkeypatch.setattr(ray_workers, "DEATHS", 2)
    monkeypatch.syspath_prepend(tmp_path)  # which only this process has been told
    (tmp_path / "own_dying.py").write_text(OWN)
    failing = OWN.replace("return 0, None", "raise ZeroDivisionError(self.calls)")
    (tmp_path / "own_failing.py").write_text(failing)
    every = "--checkpoint-every-steps 1"
    policies = [f"own_dying {every} --deaths 1", f"own_dying {every} --deaths 9", "own_failing"]
    runs = tmp_path / "runs"
    with pytest.raises(RunsFailed, match=r"2 of 3 runs failed: own-dying-.*, own-failing-"):
        compare.compare(
            dataclasses.replace(options(runs, *policies, engine="ray", workers=1), seeds=1)
        )
    said = capsys.readouterr().err.splitlines()
    assert sum("a process has died" in line for line in said) == 2
    assert sum("failed: each of 2 processes that did it has died" in line for line in said) == 1
    assert sum("failed: ZeroDivisionError: 1 (the traceback is in" in line for line in said) == 1
    assert (runs / "died-1").read_text() == "x"
    assert (runs / "died-9").read_text() == "xx"

    (finished,) = [folder.parent for folder in runs.glob("*-seed0/summary.json")]
    before = (runs / "rows-1").read_text()
    after = (finished / "steps.jsonl").read_text()
    # Those before its last checkpoint are the same, with the seconds that they took.
    assert before.splitlines()[:2] == after.splitlines()[:2]
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "died-1").write_text("x")  # so it isn't killed
    compare.compare(dataclasses.replace(options(tmp_path / "whole", policies[0]), seeds=1))
    (whole,) = (tmp_path / "whole").glob("*-seed0")
    assert facts(finished) == facts(whole)


@pytest.mark.slow
def test_a_stop_leaves_runs_that_go_on_and_no_process(tmp_path):
    """With a Ray of its own, that ends with it."""
    long = [a for a in ARGUMENTS if "max-iters" not in a] + ["--env.max-iters=1000000"]
    command = [sys.executable, "-m", "baselines.compare", "tied", "--engine", "ray"]
    process = subprocess.Popen(
        [*command, "--seeds", "1", "--workers", "1", "--runs-dir", str(tmp_path), *long],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: list(tmp_path.glob("*-seed0/steps.jsonl")))
    below = descendants(process.pid)
    assert len(below) > 3
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    out, said = process.communicate(timeout=60)
    wait_until(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()])
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in said
    stopping, stopped = [line for line in said.splitlines() if line.startswith("stop")]
    assert stopping.startswith("stopping: runs end at their next step")
    assert stopped == "stopped: the same command goes on where it stopped"
    (folder,) = tmp_path.glob("*-seed0")
    assert len(list(folder.glob("checkpoint-*.safetensors"))) == 1
    assert read_run(folder).summary is None


def descendants(pid):
    below = []
    for number in children(pid):
        below += [number, *descendants(number)]
    return below


def children(pid):
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(number) for file in found for number in file.read_text().split()]


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_agents_learn_on_ray_what_they_learn_in_processes(ray, tmp_path):
    file = str(made_table(tmp_path))
    learners = [
        parse_learner("qlearning", file, real_config(file, "delta_ppl_params", 0.0), DECISIONS)
    ]
    kept = {
        engine: learn_missing(learners, [0], tmp_path / engine, None, True, engine)
        for engine in ("processes", "ray")
    }
    ends = [
        {split: found.tolist() for split, found in learnt["qlearning"][0].ends.items()}
        for learnt in kept.values()
    ]
    assert ends[0] == ends[1]
    assert len(list((tmp_path / "ray").iterdir())) == 1


# Nodes that can't do the work


@pytest.fixture
def ticket(tmp_path):
    """Of a program that has just written its mark."""
    return Ticket.write(tmp_path, {"baselines.fixed"}, 0.0)


def asked(ray, ticket):
    return check_nodes(ray, ticket, room_of(ray, Resources()))


def test_a_node_that_sees_the_folder_and_has_the_same_code_can_do_the_work(ray, ticket, tmp_path):
    with ticket.mark.open("r+") as file:
        assert ray_workers._try_lock(file.fileno())
        assert asked(ray, ticket) == set()
    assert asked(ray, ticket) == {socket.gethostname()}  # nobody has locked it
    assert [path.name for path in tmp_path.iterdir()] == [ticket.mark.name]


def test_what_keeps_a_node_from_the_work_is_named(ray, ticket, tmp_path):
    def refused(message, **other):
        with pytest.raises(InputError, match=message):
            asked(ray, dataclasses.replace(ticket, **other))

    elsewhere = tmp_path / "not mounted" / ticket.mark.name
    refused(r"doesn't see the folder of the runs, .*not mounted: choose one", mark=elsewhere)
    refused("doesn't see the folder of the runs", token="of another program")
    refused("doesn't see the working directory /no/such", cwd=Path("/no/such"))
    refused("can't import no_such_program: ModuleNotFoundError", modules=("no_such_program",))
    changed = dict.fromkeys(("tiegym/env.py", "baselines/gone.py"), "0" * 64)
    refused(
        r"would make other runs .*: it has torch 2\S+, not 1.0; "
        r"another tiegym/env.py, baselines/gone.py\. Give",
        facts=ticket.facts | {"torch": "1.0"} | changed,
    )


def test_a_node_that_joins_later_and_cannot_do_the_work_is_noticed(ray, tmp_path):
    tasks = RayTasks("local", fixed.main, tmp_path, (), Resources(), None, stoppable=False)
    tasks._ticket.mark.write_text("another")
    tasks.submit(None)
    with pytest.raises(InputError, match="doesn't see the folder of the runs"):
        tasks.ended(60)
    tasks.stop()


def test_what_a_node_writes_must_be_seen_here(ray, ticket, monkeypatch):
    monkeypatch.setattr(Path, "unlink", lambda path: path.with_name("none").stat())
    with pytest.raises(InputError, match="isn't there on this machine"):
        asked(ray, ticket)


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "dask"], "engine='dask' is unknown: there are processes, ray, ray:auto"),
        (["--engine", "ray:here"], "engine='ray:here' is unknown"),
        (["--engine", "ray:ray://head:10001"], "start this program on a node of the cluster"),
        (["--engine", "ray:127.0.0.1:1"], "no Ray cluster can be reached at 127.0.0.1:1: "),
        (["--engine", "ray:no-such-host.invalid:6379"], "can be reached at no-such-host.invalid"),
        (["--engine", "ray:127.0.0.1:99999"], "can be reached at 127.0.0.1:99999"),
        (["--cpus-per-run", "1"], "cpus_per_run=1 is for --engine ray"),
        (["--gpus-per-run", "1"], "gpus_per_run=1.0 is for --engine ray"),
        (["--engine", "ray", "--cpus-per-run", "0"], "cpus_per_run=0 must be at least 1"),
        (["--engine", "ray", "--gpus-per-run", "1.5"], "must be from 0 to 1, or a whole number"),
        (["--engine", "ray", "--gpus-per-run", "-1"], "must be from 0 to 1, or a whole number"),
        (["--engine", "ray", "--list-missing"], "leave out --list-missing, or --engine"),
    ],
)
def test_an_engine_that_cannot_be_had_is_one_line_and_status_2(
    arguments, message, tmp_path, capsys
):
    begin = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        compare.main(["tied", "--seeds", "1", "--runs-dir", str(tmp_path), *ARGUMENTS, *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert time.monotonic() - begin < 30


def test_a_run_that_fits_on_no_node_is_refused(ray, tmp_path):
    for more in ({"cpus_per_run": 999}, {"threads": 999}, {"gpus_per_run": 1.0}):
        with pytest.raises(InputError, match=r"fits on no node of the cluster .*: 2 and 0\)"):
            compare.compare(options(tmp_path, "tied", engine="ray", **more))
    assert not list(tmp_path.iterdir())


def test_an_address_is_that_of_this_program_or_no_other(ray, monkeypatch):
    here = ray.get_runtime_context().gcs_address
    assert connect(here) is connect("auto") is ray
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(InputError, match=f"uses the Ray at {here}, not {address}"):
            connect(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"not {address}"):
            connect("auto")


def test_an_address_of_the_environment_without_a_port_is_an_input_error(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:port")
    with pytest.raises(InputError, match="can be reached at head:port"):
        connect("auto")


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'tiegym\[ray\]'"):
        ray_cluster.connect("local")


def test_processes_need_no_ray():
    assert address_of("processes") is None
    programs = ("baselines.compare", "baselines.regret")
    for name in programs:  # and all that they need
        importlib.import_module(name)
    with mock.patch.dict(sys.modules, {"ray": None}):  # to import it is an error
        for name in list(sys.modules):
            if name.partition(".")[0] in ("agents", "baselines"):
                del sys.modules[name]
        for name in programs:
            importlib.import_module(name)
    for path in Path(tiegym.__file__).parent.rglob("*.py"):
        assert not re.search(r"(import|from) ray\b", path.read_text()), path
