"""The table of primary comparisons: who is in it, beside what, and who wins."""

import pytest

from baselines import primary_table
from tests.tiegym.analysis.made_up import make_row
from tiegym.analysis.tables import make_table
from tiegym.pictures.forest import plot_forest

NOISE = (0.0, 0.01, -0.01, 0.02, -0.02, 0.0)


def losses(mean, spread=1.0):
    return [mean + spread * each for each in NOISE]


def rows_beside(agent):
    return [
        agent,
        make_row(losses(2.0), "random", "random_tying", protocol="none"),
        make_row(losses(1.9, -1.0), "random-fixed", "random_fixed", protocol="none"),
        make_row(losses(1.8, 0.5), "cycle:2", "fixed-cycle:2", protocol="none"),
    ]


def cells(agent):
    text = primary_table.markdown(make_table(rows_beside(agent)))
    lines = text.splitlines()
    assert len(lines) == 3  # who doesn't learn isn't in it
    return [cell.strip() for cell in lines[2].split("|")[1:-1]]


@pytest.mark.parametrize(("mean", "won"), [(1.5, "yes"), (1.85, "no"), (1.799, "no"), (2.5, "no")])
def test_who_is_better_than_chance_and_than_the_best_pattern_wins(mean, won):
    found = cells(make_row(losses(mean), "maskable_ppo", "maskable_ppo"))
    assert found[0] == "maskable_ppo"
    assert found[-1] == won


def test_differences_stand_beside_the_names_of_what_they_are_over():
    found = cells(make_row(losses(1.5), "maskable_ppo", "maskable_ppo"))
    over = ["random", "random-fixed", "cycle:2"]
    for cell, name, difference in zip(found[3:6], over, (-0.5, -0.4, -0.3), strict=True):
        assert cell.startswith(f"{difference:+.4f} [")
        assert cell.endswith(f"]* {name}")


def test_without_a_pattern_of_its_size_nobody_wins():
    found = cells(make_row(losses(1.5), "maskable_ppo", "maskable_ppo", n_independent=4))
    assert found[-2:] == ["", ""]


def test_the_picture_has_a_row_for_each_who_learns_and_has_all_references(tmp_path, monkeypatch):
    drawn = {}

    def plot(panels, what, path, beside_first):
        drawn.update(panels)
        assert not beside_first
        plot_forest(panels, what, path, beside_first)

    monkeypatch.setattr(primary_table, "plot_forest", plot)
    agent = make_row(losses(1.5), "maskable_ppo", "maskable_ppo")
    large = make_row(losses(1.5), "large", "dqn", n_independent=4)  # no pattern is as large
    table = make_table([*rows_beside(agent), large])
    assert primary_table.draw(table, tmp_path / "primary.png")
    assert (tmp_path / "primary.png").read_bytes().startswith(b"\x89PNG")
    assert [[e.name for e in estimates] for estimates in drawn.values()] == [["maskable_ppo"]] * 3
    assert all(e.starred and e.low < e.value < e.high < 0 for (e,) in drawn.values())
    assert not primary_table.draw(make_table(rows_beside(large)[1:]), tmp_path / "none.png")
