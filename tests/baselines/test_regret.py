"""Regret of agents: the figures of a report, and the program from command line to files."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from baselines import table_learning
from baselines.regret import main
from baselines.regret_table import DRAWN, make_report, markdown, write_csv
from baselines.table_learning import Learnt
from tests.baselines.tables import BEST, DECISIONS, made_table
from tiegym.bench.regret import known_regrets, regret
from tiegym.bench.table import load_table
from tiegym.bench.values import leaf_of


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return str(made_table(tmp_path_factory.mktemp("tables")))


@pytest.fixture(scope="module")
def table(file):
    return load_table(file)


@pytest.fixture
def learnt(table):
    """Two agents with three seeds each: one learns the best ties, the other never does."""
    best = leaf_of(table.tree, np.array(BEST))
    leaves = table.tree.leaves

    def one(first, last):
        ends = {"train": np.array([[first] * 3, [last] * 3])}
        return Learnt({**ends, "held-out": np.array([[first] * 2, [last] * 2])}, 4.0)

    return {
        "lazy|one": [one(leaves[k], leaves[k + 3]) for k in range(3)],
        "clever": [one(leaves[k], best) for k in range(3)],
    }


@pytest.mark.parametrize("split", ["train", "held-out"])
@pytest.mark.parametrize("loss", ["val", "test"])
def test_a_report_has_means_over_both_kinds_of_seeds(table, learnt, split, loss):
    report = make_report(table, learnt, DECISIONS, 0.1, split, loss)
    assert list(report.agents) == ["clever", "lazy|one"]  # best first
    assert report.recorded == {"train": 3, "held-out": 2}[split]
    lazy = report.agents["lazy|one"]
    assert [row.decisions for row in lazy] == list(DECISIONS)
    by_seed = [
        regret(table, one.ends[split][0], 0.1, split, loss).mean() for one in learnt["lazy|one"]
    ]
    mean, low, high = lazy[0].regret
    assert mean == pytest.approx(np.mean(by_seed))
    expected = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    assert (low, high) == pytest.approx(expected)
    levels = known_regrets(table, 0.1, split, loss)
    assert report.levels == pytest.approx({k: v.mean() for k, v in levels.items()})
    assert set(DRAWN) <= set(report.levels)
    over = np.subtract(lazy[0].regret, levels["best sequence"].mean())
    assert lazy[0].over_best_sequence == pytest.approx(over)
    assert report.agents["clever"][1].share == pytest.approx(2 / 3)


def test_what_always_plays_alike_has_no_interval(table, learnt):
    report = make_report(table, learnt, DECISIONS, 0.0, "held-out", "val")
    mean, low, high = report.agents["clever"][1].regret
    assert low == mean == high < 0.02  # the losses of its ties differ by chance


def test_the_table_for_people_names_all_and_everything_stands_in_its_cell(table, learnt):
    text = markdown(make_report(table, learnt, DECISIONS, 0.0, "held-out", "val"))
    assert text.startswith("Regret in nats on table tree-3x2-made-sum at price 0:")
    lines = [line.replace(r"\|", "_").split("|") for line in text.splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert cells[0][:3] == ["agent", "after 100", "after 200"]
    assert cells[2][0] == "clever"
    assert cells[3][0] == "lazy_one"
    assert cells[2][-1] == "20,000"  # 4 s for 200 decisions
    assert {len(line) for line in cells[:4]} == {6}
    names = [line[0] for line in cells[4:]]
    assert {"best sequence", "best pattern", "random", "random-fixed", "shallow:2"} <= set(names)
    assert "clairvoyant" not in names
    rows = text.splitlines()[2:6]
    assert len({len(row) for row in rows}) == 1  # aligned, for a terminal


def test_the_table_for_programs_has_a_line_for_each_figure(table, learnt, tmp_path):
    report = make_report(table, learnt, DECISIONS, 0.1, "held-out", "val")
    write_csv(report, tmp_path / "regret.csv")
    with (tmp_path / "regret.csv").open() as file:
        lines = list(csv.DictReader(file))
    agents = [line for line in lines if line["decisions"]]
    assert [(a["policy"], a["decisions"]) for a in agents][:2] == [
        ("clever", "100"),
        ("clever", "200"),
    ]
    assert float(agents[3]["regret_low"]) == report.agents["lazy|one"][1].regret[1]
    others = {line["policy"]: float(line["regret"]) for line in lines if not line["decisions"]}
    assert others == report.levels
    assert {line["table"] for line in lines} == {"tree-3x2-made-sum"}


def run(file, out, *arguments):
    decisions = ["--decisions", *map(str, DECISIONS)]
    small = ["--agents", "dqn", "qlearning", "--seeds", "2", "--quiet"]
    main([file, "--out", str(out), *small, *decisions, *arguments])


def test_the_program_writes_tables_and_pictures_and_learns_once(
    file, tmp_path, capsys, monkeypatch
):
    run(file, tmp_path)
    said = capsys.readouterr().out
    folder = tmp_path / "tree-3x2-made-sum"
    assert {p.name for p in folder.iterdir()} == {
        *("regret.md", "regret.csv", "regret.png", "regret-dark.png", "learnt"),
    }
    assert said.startswith((folder / "regret.md").read_text())
    assert said.splitlines()[-2:] == [
        f"all columns: {folder}/regret.csv",
        f"pictures:    {folder}/regret.png and regret-dark.png",
    ]
    assert len(list((folder / "learnt").iterdir())) == 4
    held_out = (folder / "regret.csv").read_text()
    monkeypatch.delattr(table_learning, "learn")
    run(file, tmp_path, "--split", "train", "--loss", "test")
    assert (folder / "regret.csv").read_text() != held_out
    run(file, tmp_path)
    assert (folder / "regret.csv").read_text() == held_out


def test_the_regret_of_the_program_is_that_of_what_is_kept(file, table, tmp_path):
    run(file, tmp_path, "--price", "0.2")
    folder = tmp_path / "tree-3x2-made-sum"
    kept = [json.loads(p.read_text()) for p in (folder / "learnt").glob("dqn-*.json")]
    expected = np.mean([regret(table, k["ends"]["held-out"], 0.2).mean(axis=1) for k in kept], 0)
    with (folder / "regret.csv").open() as lines:
        found = [float(li["regret"]) for li in csv.DictReader(lines) if li["policy"] == "dqn"]
    assert found == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agents", "dnq"], "'dnq' is no agent that learns: did you mean 'dqn'?"),
        (["--agents", "dqn", "dqn"], "must name at least one agent, each once"),
        (["--seeds", "1"], "seeds=1 must be at least 2: one has no interval"),
        (["--workers", "0"], "workers=0 must be at least 1"),
        (["--decisions", "200", "100"], "decisions=[200, 100] must be numbers from 1 on that rise"),
        (["--decisions", "100", "100"], "decisions=[100, 100] must be numbers"),
        (["--decisions", "0", "100"], "decisions=[0, 100] must be numbers"),
        (["--decisions", "110", "200"], "'dqn' decides in"),
        (["--decisions", "100", "110"], "total_steps=110 is no multiple of envs="),
        (["--agents", "ppo --n-steps 64", "--decisions", "100"], "has learnt nothing before"),
        (["--price", "-1"], "price=-1.0 must be"),
        (["--price", "inf"], "price=inf must be"),
        (["--out", "/dev/null/there"], "/dev/null/there/tree-3x2-made-sum can't be used"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(file, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        run(file, tmp_path, *arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("tree-9x9", "table='tree-9x9' is unknown"), ("nothing.npz", "there is no such file")],
)
def test_an_unknown_table_is_refused(name, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(name, tmp_path)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_table_without_decisions_is_refused(file, table, tmp_path, capsys):
    import dataclasses

    from tiegym.bench.table import write_table

    arrays = {k: v for k, v in table.arrays.items() if k not in ("train", "val", "test", "stats")}
    write_table(tmp_path / "patterns.npz", dataclasses.replace(table, arrays=arrays))
    with pytest.raises(SystemExit) as ended:
        run(str(tmp_path / "patterns.npz"), tmp_path)
    assert ended.value.code == 2
    assert "holds fixed sharings and no decisions" in capsys.readouterr().err
